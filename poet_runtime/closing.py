"""Closing: what is closed at the end of a `with` block, however the block ends.

Invariant: `close` is called in any case, and once more does no harm.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Closing(ABC):
    """A context manager that is itself what the block gets."""

    @abstractmethod
    def close(self) -> None:
        """Ends it. May be repeated."""

    def discard(self) -> None:
        """Told before `close` where an error ends the block: its result is not wanted."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        if error is not None:
            self.discard()
        self.close()
