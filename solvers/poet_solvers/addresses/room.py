"""How to make room for one block among others, moving the fewest bytes.

Two ways: *slide*, the blocks between some neighbouring gaps move down until the gaps are one; and
*jump*, what lies in one window moves to gaps elsewhere. Requires blocks without overlaps by offset
and at least `size` free bytes in all, so that one slide always exists. Ensures: the moves can be
carried out one after the other, each to bytes where no other block lies at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

Living = tuple[int, int, int]
"""(offset, end, block) of what lives now."""

Gap = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Where the new block goes once the moves (block, new offset) are done, in order."""

    moved_bytes: int
    targets: tuple[tuple[int, int], ...]
    offset: int


def gaps_of(live: Sequence[Living], height: int) -> list[Gap]:
    """The free (begin, end) below `height`; `live` by offset, overlaps allowed."""
    gaps, top = [], 0
    for offset, end, _ in live:
        if offset > top:
            gaps.append((top, offset))
        top = max(top, end)
    if top < height:
        gaps.append((top, height))
    return gaps


def make_room(
    live: Sequence[Living], gaps: Sequence[Gap], size: int, height: int, free_of_charge: Set[int]
) -> Room:
    """The cheapest room for `size` bytes; to move what is `free_of_charge` costs nothing."""
    best = min(_slides(live, gaps, size, free_of_charge), key=lambda room: room.moved_bytes)
    for window in sorted(
        {0, height - size, *(e for _, e, _ in live), *(o - size for o, _, _ in live)}
    ):
        if 0 <= window <= height - size:
            room = _jump(live, gaps, window, size, free_of_charge, best.moved_bytes)
            best = room or best
    return best


def _slides(
    live: Sequence[Living], gaps: Sequence[Gap], size: int, free_of_charge: Set[int]
) -> Iterator[Room]:
    """For each gap the fewest gaps from there on that hold `size` bytes together."""
    for number, (begin, _) in enumerate(gaps):
        free_bytes = 0
        for low, high in gaps[number:]:
            free_bytes += high - low
            if free_bytes >= size:
                between = [item for item in live if begin <= item[0] < high]
                targets, place = [], begin
                for offset, end, block in between:
                    targets.append((block, place))
                    place += end - offset
                yield Room(
                    moved_bytes=_charge(between, free_of_charge),
                    targets=tuple(targets),
                    offset=place,
                )
                break


def _jump(
    live: Sequence[Living],
    gaps: Sequence[Gap],
    window: int,
    size: int,
    free_of_charge: Set[int],
    below_bytes: int,
) -> Room | None:
    """The window emptied into the gaps outside it, the largest block first, each into the tightest
    gap; None where that does not work or costs `below_bytes` or more."""
    end = window + size
    inside = [item for item in live if item[0] < end and item[1] > window]
    moved_bytes = _charge(inside, free_of_charge)
    if moved_bytes >= below_bytes:
        return None
    outside = [
        part
        for begin, stop in gaps
        for part in ((begin, min(stop, window)), (max(begin, end), stop))
        if part[0] < part[1]
    ]
    targets = []
    for offset, stop, block in sorted(inside, key=lambda item: (item[0] - item[1], item[0])):
        wide = [gap for gap in outside if gap[1] - gap[0] >= stop - offset]
        if not wide:
            return None
        tightest = min(wide, key=lambda gap: (gap[1] - gap[0], gap[0]))
        targets.append((block, tightest[0]))
        outside.remove(tightest)
        outside.append((tightest[0] + stop - offset, tightest[1]))
    return Room(moved_bytes=moved_bytes, targets=tuple(targets), offset=window)


def _charge(items: Sequence[Living], free_of_charge: Set[int]) -> int:
    return sum(end - offset for offset, end, block in items if block not in free_of_charge)
