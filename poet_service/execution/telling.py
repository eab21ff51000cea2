"""A Store that tells of every solve that it has changed: how waiters in this process wake at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from poet_service.database.store import Store

# Methods whose first argument is the solve, and that write an event for its followers.
_WRITES = frozenset(
    {"claim", "incumbent", "bound", "progress", "finish", "fail", "stopped", "lost", "release"}
)


def telling(store: Store, tell: Callable[[str], None]) -> Store:
    """The same store; `tell` is called with the solve's id after each write, from any thread."""
    return cast(Store, _Telling(store, tell))


class _Telling:
    def __init__(self, store: Store, tell: Callable[[str], None]) -> None:
        self._store, self._tell = store, tell

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in _WRITES:
            return method

        def told(solve_id: str, *given: Any, **named: Any) -> Any:
            result = method(solve_id, *given, **named)
            self._tell(solve_id)
            return result

        return told
