"""The holds of all values in arrays, so that those across one position are found at once.

Invariant: row i of the arrays is the hold that `of` maps to i; a free row, and one that is not to be
chosen, spans nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

Span = tuple[int, int]
"""A hold of a value: from one node to another that touches it."""


class Holds:
    """`of[v]`: the rows of v's holds. `value`, `since` and `until` (places) are by row.

    `least` and `looked` are notes of whoever looks for chains: the least that one can cost to end
    the hold, and when that was known. `kind` is a number for alike holds. A new one has none."""

    def __init__(self, values: int, rows: int) -> None:
        self.of: list[dict[Span, int]] = [{} for _ in range(values)]
        self._spans: list[Span] = []
        self._free: list[int] = []
        self.value: Ints = np.zeros(rows + 16, np.int64)
        self.since: Ints = np.full(rows + 16, -1, np.int64)
        self.until: Ints = np.full(rows + 16, -1, np.int64)
        self.least: Floats = np.zeros(rows + 16, np.float64)
        self.looked: Ints = np.full(rows + 16, -1, np.int64)
        self.kind: Ints = np.full(rows + 16, -1, np.int64)

    def span(self, row: int) -> Span:
        """The nodes of a row."""
        return self._spans[row]

    def across(self, position: int) -> Ints:
        """Rows of the holds that begin before a position and end after it."""
        return np.flatnonzero((self.since < position) & (self.until > position))

    def add(self, v: int, span: Span, since: int, until: int, *, plain: bool) -> None:
        """A new hold of v; `plain`: it may be chosen."""
        if self._free:
            row = self._free.pop()
            self._spans[row] = span
        else:
            row = len(self._spans)
            self._spans.append(span)
            if row == len(self.value):
                self._grow()
        self.of[v][span] = row
        self.value[row], self.looked[row], self.kind[row] = v, -1, -1
        if plain:
            self.since[row], self.until[row] = since, until

    def mark(self, v: int, span: Span, since: int, until: int, plain: bool) -> None:
        """Say again whether a hold may be chosen."""
        row = self.of[v][span]
        self.since[row], self.until[row] = (since, until) if plain else (-1, -1)

    def remove(self, v: int, span: Span) -> None:
        """Forget a hold."""
        row = self.of[v].pop(span)
        self.since[row] = self.until[row] = -1
        self._free.append(row)

    def shift(self, threshold: int, count: int) -> None:
        """Positions from `threshold` on move by `count`."""
        self.since[self.since >= threshold] += count
        self.until[self.until >= threshold] += count

    def _grow(self) -> None:
        more: Any = np.full(len(self.value), -1, np.int64)
        self.value = np.concatenate([self.value, more])
        self.since = np.concatenate([self.since, more])
        self.until = np.concatenate([self.until, more])
        self.looked = np.concatenate([self.looked, more])
        self.kind = np.concatenate([self.kind, more])
        self.least = np.concatenate([self.least, np.zeros(len(more), np.float64)])
