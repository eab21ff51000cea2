"""Shorter stays: the judge finds no cost in them, and what would cost something stays as it is."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.graph import Role, TrainingGraph
from poet_core.plan import Budget, Do, Plan
from poet_core.simulate import simulate
from poet_solvers.addresses import place, shifted
from poet_solvers.addresses.intervals import blocks_of
from poet_solvers.evict import evict_schedule
from poet_solvers.values import value_table
from tests.oracles.generate import Shape, random_graph, random_problem
from tests.solvers.test_addresses import (
    FREE,
    IN,
    OUT,
    ROOMY,
    C,
    free_costs,
    op,
    plan_of,
    schedule_of,
    storage,
)
from tests.solvers.test_addresses_moves import random_plans


def wide_graph() -> TrainingGraph:
    """Op 0 writes s0, which op 3 reads; ops 1 and 2 make other things."""
    return TrainingGraph(
        storages=tuple(storage(n, 4, Role.ACTIVATION) for n in range(4)),
        ops=(
            op(0, writes=(0,)),
            op(1, writes=(1,)),
            op(2, reads=(1,), writes=(2,)),
            op(3, reads=(0,), writes=(3,)),
        ),
    )


LATE = [(C, 0), (C, 1), (OUT, 0), (FREE, 0), (IN, 0), (C, 2), (FREE, 1), (FREE, 2), (C, 3),
        (FREE, 0), (FREE, 3)]  # fmt: skip


def does(plan: Plan) -> list[tuple[Do, int]]:
    return [(instruction.do, instruction.target) for instruction in plan.schedule.instructions]


def test_a_stay_ends_after_its_last_use_and_begins_before_its_first() -> None:
    graph = wide_graph()
    plan = plan_of(graph, schedule_of((), *LATE), ROOMY)
    short = shifted(graph, plan)
    assert does(short) == [(C, 0), (OUT, 0), (FREE, 0), (C, 1), (C, 2), (FREE, 1), (FREE, 2),
                           (IN, 0), (C, 3), (FREE, 0), (FREE, 3)]  # fmt: skip
    assert (plan.claims.peak_bytes, short.claims.peak_bytes) == (12, 8)
    assert short.claims == simulate(graph, plan.costs, plan.budget, short.schedule).claims


def with_seconds(page_in: float, page_out: float) -> Costs:
    costs = free_costs(wide_graph())
    return replace(
        costs,
        op_seconds=(1.0,) * 4,
        page_in_seconds=(page_in,) * 4,
        page_out_seconds=(page_out,) * 4,
    )


def test_a_page_in_that_hides_behind_an_op_stays_where_it_is() -> None:
    graph = wide_graph()
    overlapped = replace(ROOMY, overlap=True)
    plan = plan_of(graph, schedule_of((), *LATE), overlapped, with_seconds(1.0, 0.0))
    short = shifted(graph, plan)
    assert short.claims.step_seconds == plan.claims.step_seconds == 4.0
    assert does(short).index((IN, 0)) < does(short).index((C, 2))
    assert does(short).index((FREE, 0)) == 2, "the free costs nothing and moves all the same"
    # Without overlap it hides nothing, so it moves too.
    plain = shifted(graph, plan_of(graph, schedule_of((), *LATE), ROOMY, with_seconds(1.0, 0.0)))
    assert does(plain).index((IN, 0)) > does(plain).index((C, 2))


def test_a_free_that_waits_for_its_page_out_stays_behind_the_op_that_hides_it() -> None:
    graph = wide_graph()
    steps = [(C, 0), (OUT, 0), *LATE[1:2], *LATE[3:]]
    overlapped = replace(ROOMY, overlap=True)
    plan = plan_of(graph, schedule_of((), *steps), overlapped, with_seconds(0.0, 1.0))
    short = shifted(graph, plan)
    assert short.claims.step_seconds == plan.claims.step_seconds == 4.0
    assert does(short)[:4] == [(C, 0), (OUT, 0), (C, 1), (FREE, 0)]


def test_a_cap_on_flash_keeps_a_copy_from_going_out_too_early() -> None:
    graph = TrainingGraph(
        storages=tuple(storage(n, 4, Role.ACTIVATION) for n in range(2)),
        ops=(op(0, writes=(0,)), op(1, writes=(1,)), op(2, reads=(1,)), op(3, reads=(0,))),
    )
    # Both leave; s1 is back before s0 goes, so flash never holds both.
    steps = [(C, 0), (C, 1), (OUT, 1), (FREE, 1), (IN, 1), (C, 2), (FREE, 1), (OUT, 0), (FREE, 0),
             (IN, 0), (C, 3), (FREE, 0)]  # fmt: skip
    small = replace(ROOMY, flash_bytes=4)
    plan = plan_of(graph, schedule_of((), *steps), small)
    kept = shifted(graph, plan)
    assert kept.claims.flash_peak_bytes == 4
    roomy = shifted(graph, plan_of(graph, schedule_of((), *steps), ROOMY))
    assert does(roomy)[:3] == [(C, 0), (OUT, 0), (FREE, 0)]
    assert does(kept)[:2] != does(roomy)[:2]


def volume(graph: TrainingGraph, plan: Plan) -> int:
    """Bytes times the computes that they live through."""
    computes = [i for i, item in enumerate(plan.schedule.instructions) if item.do is Do.COMPUTE]
    return sum(
        block.size_bytes
        for block in blocks_of(graph, plan.budget, plan.schedule)
        for first, last in block.spans
        for position in computes
        if first <= position <= last
    )


def test_random_plans_keep_their_costs_their_work_and_their_computes() -> None:
    shorter = 0
    for graph, plan in random_plans(500):
        short = shifted(graph, plan)
        assert short.claims.peak_bytes <= plan.claims.peak_bytes
        assert short.claims.step_seconds <= plan.claims.step_seconds * (1 + 1e-9)
        assert short.claims.energy_joules <= plan.claims.energy_joules * (1 + 1e-9)
        assert sorted(does(short)) == sorted(does(plan))
        computes = [item for item in does(plan) if item[0] is C]
        assert [item for item in does(short) if item[0] is C] == computes
        assert volume(graph, short) <= volume(graph, plan)
        shorter += volume(graph, short) < volume(graph, plan)
        assert place(graph, short, looks=1).peak_bytes <= plan.claims.peak_bytes
    assert shorter > 100


def test_evicting_plans_pack_better_after_the_shift() -> None:
    before = after = 0.0
    for seed in range(40):
        rng = Random(seed)
        graph = random_graph(rng, Shape(most_ops=24, most_persistent=8, most_bytes=40))
        problem = random_problem(rng)
        problem = replace(
            problem, graph=graph, costs=free_costs(graph), budget=Budget(ram_bytes=10**6)
        )
        roomy = evict_schedule(problem, value_table(graph, problem.budget))
        if roomy is None:
            continue
        peak = simulate(graph, problem.costs, problem.budget, roomy).peak_bytes
        problem = replace(problem, budget=Budget(ram_bytes=int(0.8 * peak)))
        schedule = evict_schedule(problem, value_table(graph, problem.budget))
        if schedule is None:
            continue
        plan = plan_of(graph, schedule, problem.budget)
        before += place(graph, plan, looks=1).arena_bytes / plan.claims.peak_bytes
        after += place(graph, shifted(graph, plan), looks=1).arena_bytes / plan.claims.peak_bytes
    assert after < before


def test_a_plan_that_the_judge_refuses_is_not_shifted() -> None:
    graph = wide_graph()
    plan = plan_of(graph, schedule_of((), *LATE), ROOMY)
    broken = replace(plan, schedule=schedule_of((), *LATE[1:]))
    with pytest.raises(PlanError):
        shifted(graph, broken)
