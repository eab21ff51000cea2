"""Random packings and their exact optimum: every offset of every block is tried, on bit masks."""

from __future__ import annotations

from random import Random

from poet_solvers.addresses.blocks import Block, Holds


def random_blocks(
    rng: Random, *, most: int = 7, positions: int = 6, most_bytes: int = 4
) -> list[Block]:
    """One to `most` blocks; now and then one of two spans."""
    blocks = []
    for number in range(rng.randint(1, most)):
        ends = sorted(rng.sample(range(-1, positions), 4 if rng.random() < 0.15 else 2))
        spans = tuple(zip(ends[::2], ends[1::2], strict=True))
        if len(spans) == 1 and rng.random() < 0.3:
            spans = ((ends[0], ends[0]),)
        blocks.append(Block(Holds.STORAGE, number, rng.randint(1, most_bytes), spans))
    return blocks


def most_live(blocks: list[Block]) -> int:
    """Most bytes alive at one position."""
    return max(sum(b.size_bytes for b in blocks if alive(b, p)) for p in positions_of(blocks))


def alive(block: Block, position: int) -> bool:
    return any(first <= position <= last for first, last in block.spans)


def positions_of(blocks: list[Block]) -> set[int]:
    return {p for b in blocks for first, last in b.spans for p in range(first, last + 1)}


def overlaps(blocks: list[Block], offsets: list[int]) -> bool:
    """Whether two blocks share a byte at some position: every byte of every position is looked at."""
    for position in positions_of(blocks):
        taken: set[int] = set()
        for block, offset in zip(blocks, offsets, strict=True):
            if alive(block, position):
                mine = set(range(offset, offset + block.size_bytes))
                if mine & taken:
                    return True
                taken |= mine
    return False


def least_arena(blocks: list[Block]) -> int:
    """The exact optimum: the least arena in which some choice of offsets has no overlap."""
    arena = most_live(blocks)
    while not _fits(blocks, arena):
        arena += 1
    return arena


def _fits(blocks: list[Block], arena: int) -> bool:
    """Whether offsets below `arena` exist; `used[p]` is a mask of the bytes taken at position p."""
    used = dict.fromkeys(positions_of(blocks), 0)
    order = sorted(blocks, key=lambda b: -b.size_bytes)

    def rest(number: int) -> bool:
        if number == len(order):
            return True
        block = order[number]
        where = [p for p in used if alive(block, p)]
        for offset in range(arena - block.size_bytes + 1):
            mask = ((1 << block.size_bytes) - 1) << offset
            if all(not used[p] & mask for p in where):
                for p in where:
                    used[p] |= mask
                if rest(number + 1):
                    return True
                for p in where:
                    used[p] ^= mask
        return False

    return rest(0)
