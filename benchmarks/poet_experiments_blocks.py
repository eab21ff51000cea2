"""torch.utils.checkpoint on a model's blocks, as users write it, on a traced graph.

A block is a member of a list of modules: forward ops belong together when their module paths agree up
to the first number (`layers.3`, `features.7`). Runs of blocks are checkpointed: what they make inside
is dropped and made again, all of it, before the first backward op that needs some of it. What comes
before, between and after lists (stem, head, loss) is kept. Invariant: a graph without module paths
has no blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from benchmarks.planner_passes import Passes
from poet_solvers.occurrences import Sequence


def checkpointed_blocks(passes: Passes) -> Iterator[Sequence]:
    """Runs of 1, 2, 3 ... blocks; the last run checkpointed like the others (as the library does when
    told to), or left alone."""
    blocks = blocks_of(passes)
    seen: set[tuple[tuple[int, int], ...]] = set()
    for length in range(1, len(blocks) + 1):
        runs = tuple(
            (group[0][0], group[-1][1])
            for start in range(0, len(blocks), length)
            if (group := blocks[start : start + length])
        )
        for segments in (runs, runs[:-1]):
            if segments and segments not in seen:
                seen.add(segments)
                yield _with_segments(passes, segments)


def blocks_of(passes: Passes) -> list[tuple[int, int]]:
    """The first op of each block and the op after its last, in order; blocks do not overlap."""
    names = [block_of(op.module) for op in passes.graph.ops[: passes.forward_ops]]
    bounds = [
        place for place in range(len(names) + 1)
        if place in (0, len(names)) or names[place] != names[place - 1]
    ]  # fmt: skip
    return [(begin, end) for begin, end in pairwise(bounds) if names[begin]]


def block_of(module: str) -> str:
    """`layers.3` of `layers.3.attention.query`; empty where no part of the path is a number."""
    parts = module.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            return ".".join(parts[: place + 1])
    return ""


def _with_segments(passes: Passes, segments: tuple[tuple[int, int], ...]) -> Sequence:
    """Dropped: what only its own segment and the backward pass read."""
    segment_of = {
        op: number for number, (begin, end) in enumerate(segments) for op in range(begin, end)
    }
    kept, together = set[int](), dict[int, list[int]]()
    for storage, producer in passes.producer.items():
        segment = segment_of.get(producer)
        outside = any(segment_of.get(use) != segment for use in passes.forward_uses[storage])
        if segment is None or outside:
            kept.add(storage)
        elif storage in passes.saved:
            together.setdefault(segment, []).append(storage)
    return passes.run_again(
        frozenset(kept),
        lambda storage: together[segment_of[passes.producer[storage]]],
    )
