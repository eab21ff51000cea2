"""Search for a packing within a target: conflicts push blocks out, and weights remember them.

A block that does not fit below the target takes the place that throws out the least cost of other
blocks, which then look for places themselves; each block that had to push costs more from then on,
so that the search does not go in circles (guided ejection search, Nagata and Bräysy, 2009, in the
place of TelaMalloc's conflict-driven order). Invariant: placed neighbours never overlap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import isqrt
from random import Random

from poet_solvers.addresses.conflicts import Packing
from poet_solvers.addresses.greedy import UNPLACED

_LOOKS_A_MOVE = 200
"""What a move costs beside its looks, measured: looks are then nearly proportional to seconds."""


@dataclass(slots=True, kw_only=True)
class Effort:
    """What a search may still spend: `looks` at neighbours (the same on every machine), and a
    clock that says when to stop all the same."""

    looks: int
    out_of_time: Callable[[], bool]
    stopped: bool = field(default=False)

    def spend(self, looks: int) -> bool:
        """Take `looks` off; False where nothing is left."""
        self.looks -= looks
        if self.looks <= 0 or self.out_of_time():
            self.stopped = True
        return not self.stopped


def fit_within(
    packing: Packing,
    target_bytes: int,
    offsets: Sequence[int],
    rng: Random,
    effort: Effort,
    *,
    equal_worth: bool = False,
) -> list[int] | None:
    """Offsets with every block below `target_bytes`, sought from `offsets`; None where the effort
    ended first. To throw out what is large and lives long costs more, unless `equal_worth`."""
    search = _Ejection(packing, target_bytes, offsets, rng, equal_worth)
    while search.waiting:
        if not effort.spend(search.place_one()):
            return None
    return search.offsets


class _Ejection:
    """`waiting` are the blocks without a place, the next one at the end."""

    def __init__(
        self,
        packing: Packing,
        target_bytes: int,
        offsets: Sequence[int],
        rng: Random,
        equal_worth: bool,
    ) -> None:
        self._packing, self._target, self._rng = packing, target_bytes, rng
        self.offsets = [
            offset if offset + size <= target_bytes else UNPLACED
            for offset, size in zip(offsets, packing.sizes, strict=True)
        ]
        self.waiting = [b for b, offset in enumerate(self.offsets) if offset == UNPLACED]
        self.waiting.sort(key=lambda b: packing.sizes[b])
        self._worth = [
            1 if equal_worth else isqrt(size * duration) + 1
            for size, duration in zip(packing.sizes, packing.durations, strict=True)
        ]
        self._costs = list(self._worth)

    def place_one(self) -> int:
        """Place one waiting block, throwing out what is in its way; the number of looks."""
        block = self.waiting.pop()
        size, sizes, offsets = self._packing.sizes[block], self._packing.sizes, self.offsets
        taken = [other for other in self._packing.neighbours[block] if offsets[other] >= 0]
        place, cost = self._cheapest(taken, size)
        if cost:
            self._costs[block] += self._worth[block]
            thrown = [
                other
                for other in taken
                if offsets[other] < place + size and offsets[other] + sizes[other] > place
            ]
            for other in thrown:
                offsets[other] = UNPLACED
            thrown.sort(key=lambda b: (sizes[b], b))
            self.waiting += thrown
        offsets[block] = place
        return len(self._packing.neighbours[block]) + _LOOKS_A_MOVE

    def _cheapest(self, taken: list[int], size: int) -> tuple[int, int]:
        """The place below the target that throws out the least cost, and that cost.

        Candidates lie at the bottom, at the top, on top of a neighbour or right below one. What a
        place throws out begins below its end, less what ends below its begin.
        """
        room, offsets, sizes = self._target - size, self.offsets, self._packing.sizes
        costs = self._costs
        by_begin = sorted([(offsets[b], costs[b]) for b in taken])
        by_end = sorted([(offsets[b] + sizes[b], costs[b]) for b in taken])
        begins, ends = [begin for begin, _ in by_begin], [end for end, _ in by_end]
        below_begin = [0, *accumulate(cost for _, cost in by_begin)]
        below_end = [0, *accumulate(cost for _, cost in by_end)]
        places = {0, room}
        places.update(end for end in ends if end <= room)
        places.update(begin - size for begin in begins if size <= begin)
        best, least, ties = 0, -1, 0
        for place in sorted(places):
            cost = below_begin[bisect_left(begins, place + size)]
            cost -= below_end[bisect_right(ends, place)]
            if least < 0 or cost < least:
                best, least, ties = place, cost, 1
                if not cost:
                    break
            elif cost == least:
                ties += 1
                if self._rng.randrange(ties) == 0:
                    best = place
        return best, least
