"""Greedy packings: blocks one after the other, each at the lowest or the tightest free place.

The orders are the classical ones of offline dynamic storage allocation: by size, by area, by
duration, by breadth (Pisarchyk and Lee, 2020, as in TFLite), and in time. Invariant: what is
returned has an offset for every block and no two neighbours overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from poet_solvers.addresses.conflicts import Packing

UNPLACED = -1


def packed(packing: Packing, order: Sequence[int], *, best_fit: bool = False) -> list[int]:
    """Offsets by block, each block of `order` at the lowest gap (or the tightest) that takes it."""
    offsets = [UNPLACED] * len(packing.sizes)
    for block in order:
        offsets[block] = place_for(packing, offsets, block, best_fit=best_fit)
    return offsets


def place_for(
    packing: Packing, offsets: Sequence[int], block: int, *, best_fit: bool = False
) -> int:
    """The lowest gap among the placed neighbours of `block` that takes it, or the tightest."""
    size, sizes = packing.sizes[block], packing.sizes
    taken = sorted(
        (offsets[other], offsets[other] + sizes[other])
        for other in packing.neighbours[block]
        if offsets[other] >= 0
    )
    top, best, least_waste = 0, UNPLACED, 0
    for begin, end in taken:
        waste = begin - top - size
        if waste >= 0:
            if not best_fit:
                return top
            if best == UNPLACED or waste < least_waste:
                best, least_waste = top, waste
        top = max(top, end)
    return top if best == UNPLACED else best


def arena_of(packing: Packing, offsets: Sequence[int]) -> int:
    """Where the highest block ends."""
    return max((o + s for o, s in zip(offsets, packing.sizes, strict=True)), default=0)


def orders(packing: Packing) -> Iterator[tuple[str, list[int]]]:
    """The classical orders, by name."""
    sizes, durations, breadths = packing.sizes, packing.durations, packing.breadths
    first = [spans[0][0] for spans in packing.spans]
    keys = {
        "size": lambda b: (-sizes[b], -durations[b], first[b]),
        "area": lambda b: (-sizes[b] * durations[b], first[b]),
        "duration": lambda b: (-durations[b], -sizes[b], first[b]),
        "breadth": lambda b: (-breadths[b], -sizes[b], -durations[b], first[b]),
        "breadth, duration": lambda b: (-breadths[b], -durations[b], -sizes[b], first[b]),
        "time": lambda b: (first[b], -durations[b], -sizes[b]),
    }
    for name, key in keys.items():
        yield name, sorted(range(len(sizes)), key=key)
