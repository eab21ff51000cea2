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


def layouts_exist(blocks: list[Block], height: int) -> bool:
    """Whether blocks of one span fit below `height`, by carrying every layout of what lives from
    position to position. Exact: layouts that are each other's mirror image, or that swap blocks of
    one size which end together, are counted once; a layout that leaves a later block no gap among
    those that will still be there is dropped."""
    sizes = [block.size_bytes for block in blocks]
    spans = [block.spans[0] for block in blocks]
    layouts: list[tuple[tuple[int, int], ...]] = [()]  # (offset, block) from the bottom up
    for position in sorted({first for first, _ in spans} | {last + 1 for _, last in spans}):
        layouts = [tuple(i for i in one if spans[i[1]][1] >= position) for one in layouts]
        later = [b for b, (first, _) in enumerate(spans) if first > position]
        for block in (b for b, (first, _) in enumerate(spans) if first == position):
            layouts = [
                tuple(sorted((*one, (offset, block))))
                for one in layouts
                for begin, end in _gaps(one, sizes, height)
                for offset in range(begin, end - sizes[block] + 1)
            ]
        seen = {}
        for one in layouts:
            if all(_keeps_a_gap(one, sizes, spans, other, height) for other in later):
                named = [(offset, sizes[b], spans[b][1]) for offset, b in one]
                mirror = [(height - offset - size, size, last) for offset, size, last in named]
                seen[min(tuple(named), tuple(sorted(mirror)))] = one
        layouts = list(seen.values())
    return bool(layouts)


def _gaps(
    layout: tuple[tuple[int, int], ...], sizes: list[int], height: int
) -> list[tuple[int, int]]:
    begins = [0, *(offset + sizes[block] for offset, block in layout)]
    return list(zip(begins, [*(offset for offset, _ in layout), height], strict=True))


def _keeps_a_gap(
    layout: tuple[tuple[int, int], ...],
    sizes: list[int],
    spans: list[tuple[int, int]],
    later: int,
    height: int,
) -> bool:
    stay = tuple(item for item in layout if spans[item[1]][1] >= spans[later][0])
    return any(end - begin >= sizes[later] for begin, end in _gaps(stay, sizes, height))
