"""`place`: an address for everything that a judged plan holds in RAM, so that it runs without an
allocator. What it returns has passed the independent check."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Plan, Schedule
from poet_core.simulate import Judgement
from poet_core.verify import verify
from poet_solvers.addresses.blocks import Addresses, Placed
from poet_solvers.addresses.check import check_addresses
from poet_solvers.addresses.intervals import BEFORE_FIRST, blocks_of
from poet_solvers.addresses.placement import pack
from poet_solvers.addresses.search import Effort

LOOKS = 20_000_000
"""Looks at neighbours that a call may take: some seconds, and the same result on every machine."""


def place(
    graph: TrainingGraph,
    plan: Plan,
    *,
    seed: int = 0,
    seconds: float = 30.0,
    looks: int = LOOKS,
    clock: Callable[[], float] = time.monotonic,
) -> Addresses:
    """Addresses for `plan`, as low as `looks` and `seconds` allow; the same for the same seed
    unless `seconds` ends first. Raises PlanError where the judge refuses the plan."""
    judgement = verify(graph, plan)
    deadline = clock() + seconds
    effort = Effort(looks=looks, out_of_time=lambda: clock() >= deadline)
    return place_schedule(graph, plan.budget, plan.schedule, judgement, Random(seed), effort)


def place_schedule(
    graph: TrainingGraph,
    budget: Budget,
    schedule: Schedule,
    judgement: Judgement,
    rng: Random,
    effort: Effort,
) -> Addresses:
    """As `place`, for a schedule with the judge's figures of it."""
    blocks = blocks_of(graph, budget, schedule)
    whole = (BEFORE_FIRST, len(schedule.instructions) - 1)
    offsets, found_by = pack(blocks, whole=whole, rng=rng, effort=effort)
    placed = [
        Placed(
            holds=block.holds,
            target=block.target,
            first=first,
            last=last,
            offset_bytes=offset,
            size_bytes=block.size_bytes,
        )
        for block, offset in zip(blocks, offsets, strict=True)
        for first, last in block.spans
    ]
    placed.sort(key=lambda item: (item.first, item.offset_bytes, item.last))
    addresses = Addresses(
        arena_bytes=max((item.offset_bytes + item.size_bytes for item in placed), default=0),
        peak_bytes=judgement.peak_bytes - budget.reserved_bytes,
        placed=tuple(placed),
        found_by=found_by,
    )
    check_addresses(graph, addresses, schedule, budget, judgement)
    return addresses
