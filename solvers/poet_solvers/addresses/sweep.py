"""A packing made in time order, in which blocks may be moved so that it fits below a height.

At each position what begins takes the place that a *guide* gives it, if that is free; else the gap
that is in the way of the fewest future blocks; else room is made at the least bytes (`room`). In
total there is always room, because no position holds more than the height; so a sweep ends without
an answer only where `limit_bytes` is passed or blocks cannot be put back at the end. Invariant:
`_live` holds what lives now, by offset, without overlaps, after every single relocation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

from poet_solvers.addresses.conflicts import Packing
from poet_solvers.addresses.greedy import UNPLACED
from poet_solvers.addresses.room import Living, gaps_of, make_room


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """A block that is copied to another offset right before a position."""

    before: int
    block: int
    source: int
    target: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """`stays`: (block, first, last, offset); `relocations` in the order in which they happen.

    `offsets` by block are those where it began last: a guide for the next sweep, and without
    relocations the packing.
    """

    stays: tuple[tuple[int, int, int, int], ...]
    relocations: tuple[Relocation, ...]
    moved_bytes: int
    offsets: tuple[int, ...]


class Sweep:
    """One sweep; `looks` counts what it looked at."""

    def __init__(
        self, packing: Packing, height: int, guide: Sequence[int], limit_bytes: int | None = None
    ) -> None:
        self._packing, self._height, self._limit = packing, height, limit_bytes
        self._guide = list(guide)
        self._live: list[Living] = []
        self._offsets = [UNPLACED] * len(packing.sizes)
        self._since = [0] * len(packing.sizes)
        self._start: dict[int, int] = {}  # of blocks that must end where they began
        self._fresh: set[int] = set()  # begun at this position: to move them costs nothing
        self._stays: list[tuple[int, int, int, int]] = []
        self._relocations: list[Relocation] = []
        self._moved_bytes = 0
        self.looks = 0

    def run(self) -> Swept | None:
        """The sweep's packing; None as the module says."""
        begins: dict[int, list[tuple[int, int]]] = {}
        ends: dict[int, list[int]] = {}
        for block, spans in enumerate(self._packing.spans):
            for first, last in spans:
                begins.setdefault(first, []).append((-self._packing.sizes[block], block))
                ends.setdefault(last, []).append(block)
        end = max(ends, default=-1)
        for position in sorted({*begins, *(last + 1 for last in ends)}):
            for block in ends.get(position - 1, ()) if position <= end else ():
                self._remove(block, position - 1)
            self._fresh.clear()
            for _, block in sorted(begins.get(position, ())):
                self._begin(block, position)
            if self._limit is not None and self._moved_bytes > self._limit:
                return None
        self._fresh.clear()
        if not self._put_back(end + 1):
            return None
        for _, _, block in list(self._live):
            self._remove(block, end)
        return Swept(
            stays=tuple(stay for stay in self._stays if stay[1] <= stay[2]),
            relocations=tuple(self._relocations),
            moved_bytes=self._moved_bytes,
            offsets=tuple(self._offsets),
        )

    def _insert(self, block: int, offset: int, position: int) -> None:
        self._offsets[block], self._since[block] = offset, position
        insort(self._live, (offset, offset + self._packing.sizes[block], block))

    def _remove(self, block: int, last: int) -> None:
        offset = self._offsets[block]
        del self._live[bisect_left(self._live, (offset, 0, 0))]
        self._stays.append((block, self._since[block], last, offset))

    def _free(self, offset: int, size: int) -> bool:
        """Whether [offset, offset + size) is inside and nobody is there."""
        if offset < 0 or offset + size > self._height:
            return False
        at = bisect_left(self._live, (offset, 0, 0))
        if at < len(self._live) and self._live[at][0] < offset + size:
            return False
        return not at or self._live[at - 1][1] <= offset

    def _begin(self, block: int, position: int) -> None:
        size = self._packing.sizes[block]
        offset = self._guide[block]
        self.looks += 20
        if not self._free(offset, size):
            gaps = gaps_of(self._live, self._height)
            self.looks += len(self._live)
            wide = [gap for gap in gaps if gap[1] - gap[0] >= size]
            if wide:
                offset = self._least_in_the_way(block, position, wide)
            else:
                self.looks += len(self._live) * len(self._live)
                plan = make_room(self._live, gaps, size, self._height, self._fresh)
                for other, target in plan.targets:
                    self._relocate(other, target, position)
                offset = plan.offset
        self._insert(block, offset, position)
        self._fresh.add(block)
        if len(self._packing.spans[block]) > 1 and block not in self._start:
            self._start[block] = self._guide[block] = offset

    def _least_in_the_way(self, block: int, position: int, wide: list[tuple[int, int]]) -> int:
        """The offset in these gaps with the least bytes whose guides it is in the way of; ties go
        to the tightest gap."""
        sizes, size = self._packing.sizes, self._packing.sizes[block]
        future = [
            (self._guide[other], self._guide[other] + sizes[other])
            for other in self._packing.neighbours[block]
            if self._guide[other] >= 0 and self._packing.spans[other][-1][0] > position
        ]
        self.looks += len(self._packing.neighbours[block])
        best = (-1, 0, 0)
        for begin, end in wide:
            places = {begin, end - size}
            places.update(e for _, e in future if begin <= e <= end - size)
            places.update(o - size for o, _ in future if begin <= o - size <= end - size)
            self.looks += len(places) * len(future) // 4
            for place in sorted(places):
                cost = sum(e - o for o, e in future if o < place + size and e > place)
                if best[0] < 0 or (cost, end - begin, place) < best:
                    best = cost, end - begin, place
        return best[2]

    def _relocate(self, block: int, target: int, position: int) -> None:
        source = self._offsets[block]
        self._remove(block, position - 1)
        if block in self._fresh:
            self._stays.pop()
            if self._start.get(block) == source:
                self._start[block] = self._guide[block] = target
        else:
            self._relocations.append(
                Relocation(before=position, block=block, source=source, target=target)
            )
            self._moved_bytes += self._packing.sizes[block]
        self._insert(block, target, position)

    def _put_back(self, position: int) -> bool:
        """Return to its first offset what must end there; False where that needs more room."""
        sizes = self._packing.sizes
        away = [block for block, start in self._start.items() if self._offsets[block] != start]
        if not {block for _, _, block in self._live}.issuperset(away):
            return False  # it is gone; in a plan such blocks live to the end
        for _ in range(4 * len(away)):
            away = [block for block in away if self._offsets[block] != self._start[block]]
            if not away:
                return True
            fitting = [b for b in away if not self._in_the_way(b)]
            if fitting:
                self._relocate(fitting[0], self._start[fitting[0]], position)
                continue
            wanted = [(self._start[b], self._start[b] + sizes[b]) for b in away]
            for other in self._in_the_way(away[0]):
                place = self._aside(sizes[other], wanted)
                if place is None:
                    return False
                self._relocate(other, place, position)
        return not any(self._offsets[block] != self._start[block] for block in away)

    def _in_the_way(self, block: int) -> list[int]:
        """The others where this block must end."""
        start, end = self._start[block], self._start[block] + self._packing.sizes[block]
        return [b for o, e, b in self._live if o < end and e > start and b != block]

    def _aside(self, size: int, wanted: list[tuple[int, int]]) -> int | None:
        """A free place that nobody wants, or any free place, or none."""
        wide = [g for g in gaps_of(self._live, self._height) if g[1] - g[0] >= size]
        taken = [(o, e, 0) for o, e, _ in self._live] + [(o, e, 0) for o, e in wanted]
        unwanted = [g for g in gaps_of(sorted(taken), self._height) if g[1] - g[0] >= size]
        return (unwanted or wide)[0][0] if wide else None
