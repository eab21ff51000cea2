"""Which drafts use a storage, while a pass walks the document and joins storages.

Invariant: positions are those of the drafts that the pass began with; a storage that another has
been joined to is used wherever either was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from poet_runtime.tracing.drafts import Draft


class Uses:
    """Positions of the drafts that read, write or mutate a storage, by storage."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._positions: defaultdict[int, list[int]] = defaultdict(list)
        self._changes: defaultdict[int, list[int]] = defaultdict(list)
        for at, draft in enumerate(drafts):
            for storage in dict.fromkeys(draft.operands + draft.changes):
                self._positions[storage].append(at)
            for storage in draft.changes:
                self._changes[storage].append(at)

    def of(self, storage: int) -> Sequence[int]:
        """Positions of every draft that touches it, in document order."""
        return self._positions[storage]

    def last(self, storage: int) -> int:
        """Position of the last draft that touches it."""
        return self._positions[storage][-1]

    def changed_within(self, storage: int, begin: int, end: int) -> bool:
        """Whether a draft after `begin` and before `end` changes it."""
        return any(begin < at < end for at in self._changes[storage])

    def join(self, gone: int, into: int) -> None:
        """What is known of `gone` is from now on true of `into`, too."""
        for table in (self._positions, self._changes):
            table[into] = sorted({*table[into], *table.pop(gone, ())})
