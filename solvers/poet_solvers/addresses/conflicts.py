"""Which blocks may not share bytes, and what no arena can be smaller than.

Requires blocks with ascending disjoint spans. Ensures: `neighbours[i]` are exactly the blocks that
live together with block i at some position, by id; blocks that live all step are not among them
(they go to the bottom of the arena, which costs nothing: above them is one smaller problem).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poet_solvers.addresses.blocks import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A packing problem: sizes, who is in conflict with whom, and facts to sort by.

    `lower_bound_bytes`: most bytes alive at once. `durations`: positions alive. `breadths`: most
    bytes alive at once while the block lives. `spans` are those of the blocks.
    """

    sizes: tuple[int, ...]
    spans: tuple[tuple[tuple[int, int], ...], ...]
    neighbours: tuple[tuple[int, ...], ...]
    durations: tuple[int, ...]
    breadths: tuple[int, ...]
    lower_bound_bytes: int


def packing_of(blocks: Sequence[Block]) -> Packing:
    """The packing problem of `blocks`; ids are positions in `blocks`."""
    begins: dict[int, list[int]] = {}
    ends: dict[int, list[int]] = {}
    for number, block in enumerate(blocks):
        for first, last in block.spans:
            begins.setdefault(first, []).append(number)
            ends.setdefault(last + 1, []).append(number)
    neighbours: list[set[int]] = [set() for _ in blocks]
    live: set[int] = set()
    live_bytes = 0
    loads: list[tuple[int, int]] = []  # after each position where something changes
    for position in sorted(begins.keys() | ends.keys()):
        for number in ends.get(position, ()):
            live.remove(number)
            live_bytes -= blocks[number].size_bytes
        for number in begins.get(position, ()):
            for other in live:
                neighbours[other].add(number)
            neighbours[number] |= live
            live.add(number)
            live_bytes += blocks[number].size_bytes
        loads.append((position, live_bytes))
    return Packing(
        sizes=tuple(block.size_bytes for block in blocks),
        spans=tuple(block.spans for block in blocks),
        neighbours=tuple(tuple(sorted(others)) for others in neighbours),
        durations=tuple(sum(last - first + 1 for first, last in b.spans) for b in blocks),
        breadths=_breadths(blocks, loads),
        lower_bound_bytes=max((load for _, load in loads), default=0),
    )


def _breadths(blocks: Sequence[Block], loads: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Range maxima of the load, by doubling: table[k][i] covers 2^k changes from change i."""
    index = {position: number for number, (position, _) in enumerate(loads)}
    table = [[load for _, load in loads]]
    width = 1
    while 2 * width <= len(loads):
        row = table[-1]
        table.append([max(row[i], row[i + width]) for i in range(len(row) - width)])
        width *= 2

    def widest(first: int, after: int) -> int:
        begin, end = index[first], index[after]
        level = (end - begin).bit_length() - 1
        return max(table[level][begin], table[level][end - (1 << level)])

    return tuple(max(widest(first, last + 1) for first, last in b.spans) for b in blocks)
