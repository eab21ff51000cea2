"""What a process remembers to save itself work, bounded; the least recently used is forgotten.

Nothing here is the only copy of anything.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Remembered(Generic[_Key, _Value]):
    """Values by key, of at most `most` weight together. Every method may be called from any
    thread."""

    def __init__(self, *, most: int) -> None:
        self._most, self._held = most, 0
        self._values: OrderedDict[_Key, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> _Value | None:
        """The value, or None where it is unknown or was forgotten."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def put(self, key: _Key, value: _Value, *, weight: int = 1) -> None:
        """Remember `value`; older ones give way."""
        with self._lock:
            self._drop(key)
            self._values[key] = (value, weight)
            self._held += weight
            while self._held > self._most:
                self._drop(next(iter(self._values)))

    def forget(self, key: _Key) -> None:
        """Forget one."""
        with self._lock:
            self._drop(key)

    def _drop(self, key: _Key) -> None:
        dropped = self._values.pop(key, None)
        if dropped is not None:
            self._held -= dropped[1]

    def __len__(self) -> int:
        return len(self._values)
