"""`place`: an address for everything that a judged plan holds in RAM, so that it runs without an
allocator. What it returns has passed the independent check."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from random import Random

from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Plan, Schedule
from poet_core.simulate import Judgement
from poet_core.verify import verify
from poet_solvers.addresses.blocks import Addresses, Block, Move, Placed
from poet_solvers.addresses.check import check_addresses
from poet_solvers.addresses.intervals import BEFORE_FIRST, blocks_of
from poet_solvers.addresses.placement import pack, pack_moving
from poet_solvers.addresses.search import Effort
from poet_solvers.addresses.sweep import Relocation

_Stay = tuple[int, int, int, int]
"""(block, first, last, offset)."""

LOOKS = 20_000_000
"""Looks at neighbours that a call may take: some seconds, and the same result on every machine."""


def place(
    graph: TrainingGraph,
    plan: Plan,
    *,
    seed: int = 0,
    seconds: float = 30.0,
    looks: int = LOOKS,
    allow_moves: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> Addresses:
    """Addresses for `plan`, as low as `looks` and `seconds` allow; the same for the same seed
    unless `seconds` ends first. With `allow_moves`, where nothing else reaches the peak, blocks
    are copied inside the arena, as few bytes as were found. Raises PlanError where the judge
    refuses the plan."""
    judgement = verify(graph, plan)
    deadline = clock() + seconds
    effort = Effort(looks=looks, out_of_time=lambda: clock() >= deadline)
    return place_schedule(
        graph, plan.budget, plan.schedule, judgement, Random(seed), effort, allow_moves=allow_moves
    )


def place_schedule(
    graph: TrainingGraph,
    budget: Budget,
    schedule: Schedule,
    judgement: Judgement,
    rng: Random,
    effort: Effort,
    *,
    allow_moves: bool = False,
) -> Addresses:
    """As `place`, for a schedule with the judge's figures of it."""
    blocks = blocks_of(graph, budget, schedule)
    whole = (BEFORE_FIRST, len(schedule.instructions) - 1)
    share = effort.looks // 2 if allow_moves else effort.looks
    first_effort = Effort(looks=share, out_of_time=effort.out_of_time)
    offsets, found_by = pack(blocks, whole=whole, rng=rng, effort=first_effort)
    stays: Iterable[_Stay] = (
        (number, first, last, offsets[number])
        for number, block in enumerate(blocks)
        for first, last in block.spans
    )
    moves: tuple[Move, ...] = ()
    if allow_moves:
        left = Effort(looks=effort.looks - share, out_of_time=effort.out_of_time)
        swept = pack_moving(blocks, whole=whole, offsets=offsets, rng=rng, effort=left)
        if swept is not None:
            stays, found_by = swept.stays, "sweep with moves"
            moves = tuple(_move(blocks[item.block], item) for item in swept.relocations)
    placed = sorted(
        (_placed(blocks, stay) for stay in stays),
        key=lambda item: (item.first, item.offset_bytes, item.last),
    )
    addresses = Addresses(
        arena_bytes=max((item.offset_bytes + item.size_bytes for item in placed), default=0),
        peak_bytes=judgement.peak_bytes - budget.reserved_bytes,
        placed=tuple(placed),
        found_by=found_by,
        moves=moves,
    )
    check_addresses(graph, addresses, schedule, budget, judgement)
    return addresses


def _placed(blocks: Sequence[Block], stay: _Stay) -> Placed:
    number, first, last, offset = stay
    block = blocks[number]
    return Placed(
        holds=block.holds,
        target=block.target,
        first=first,
        last=last,
        offset_bytes=offset,
        size_bytes=block.size_bytes,
    )


def _move(block: Block, item: Relocation) -> Move:
    return Move(
        before=item.before,
        holds=block.holds,
        target=block.target,
        from_bytes=item.source,
        to_bytes=item.target,
        size_bytes=block.size_bytes,
    )
