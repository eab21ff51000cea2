"""Page-outs carried over into the next step: shorter where the lane is idle there, else left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.backends import SolveLimits
from poet_solvers.carry import carried
from poet_solvers.evict import best_evict_schedule, judged_cost
from poet_solvers.portfolio import solve
from poet_solvers.search import native_missing
from poet_solvers.values import value_table
from tests.solvers.test_search_time import training

MOMENT, ACTIVATION = 0, 1
FIRST, UPDATE = 0, 1


def problem(ram_bytes: int = 8) -> Problem:
    """An op of a second, then the update of a moment that is on flash meanwhile."""
    storages = (
        Storage(id=0, name="m", size_bytes=4, role=Role.OPTIMIZER_STATE, persistent=True),
        Storage(id=1, name="a", size_bytes=4, role=Role.ACTIVATION),
    )
    ops = (
        Op(id=0, name="f", kind="test", phase=Phase.FORWARD, writes=(1,)),
        Op(
            id=1, name="u", kind="test", phase=Phase.UPDATE, reads=(1,), mutates=(0,),
            recomputable=False,
        ),
    )  # fmt: skip
    return Problem(
        graph=TrainingGraph(storages=storages, ops=ops),
        costs=Costs(
            op_seconds=(1.0, 1.0), op_joules=(1.0, 1.0),
            page_in_seconds=(0.75, 0.75), page_in_joules=(0.5, 0.5),
            page_out_seconds=(0.75, 0.75), page_out_joules=(0.5, 0.5),
        ),
        budget=Budget(ram_bytes=ram_bytes, overlap=True),
        objective=Objective.TIME,
        allowed=Allowed(reorder=False),
    )  # fmt: skip


SCHEDULE = Schedule(
    start_ram=(),
    start_flash=(MOMENT,),
    instructions=(
        Instruction(Do.COMPUTE, FIRST),
        Instruction(Do.PAGE_IN, MOMENT),
        Instruction(Do.COMPUTE, UPDATE),
        Instruction(Do.PAGE_OUT, MOMENT),
        Instruction(Do.FREE, MOMENT),
        Instruction(Do.FREE, ACTIVATION),
    ),
)


def seconds(given: Problem, schedule: Schedule) -> float:
    return simulate(given.graph, given.costs, given.budget, schedule, given.allowed).step_seconds


def test_what_is_written_at_the_end_goes_out_beside_the_next_steps_first_op() -> None:
    given = problem()
    assert seconds(given, SCHEDULE) == 3.5
    found = carried(given, SCHEDULE)
    assert seconds(given, found) == 2.75
    assert (found.start_ram, found.start_flash) == ((MOMENT,), ())
    assert found.instructions == (
        Instruction(Do.PAGE_OUT, MOMENT),
        Instruction(Do.COMPUTE, FIRST),
        Instruction(Do.FREE, MOMENT),
        Instruction(Do.PAGE_IN, MOMENT),
        Instruction(Do.COMPUTE, UPDATE),
        Instruction(Do.FREE, ACTIVATION),
    )


def test_where_it_helps_nobody_the_schedule_stays() -> None:
    tight = problem(ram_bytes=8)
    large = replace(
        tight,
        graph=replace(
            tight.graph,
            storages=(*tight.graph.storages, Storage(id=2, name="b", size_bytes=4, role=Role.ACTIVATION)),
            ops=(replace(tight.graph.ops[0], writes=(1, 2)), tight.graph.ops[1]),
        ),
        costs=replace(
            tight.costs, page_in_seconds=(0.75,) * 3, page_in_joules=(0.5,) * 3,
            page_out_seconds=(0.75,) * 3, page_out_joules=(0.5,) * 3,
        ),
    )  # fmt: skip
    freed = (SCHEDULE.instructions[0], Instruction(Do.FREE, 2), *SCHEDULE.instructions[1:])
    schedule = replace(SCHEDULE, instructions=freed)
    assert seconds(large, schedule) == 3.5
    assert carried(large, schedule) is schedule  # no room beside the first op
    energy = replace(problem(), objective=Objective.ENERGY)
    assert carried(energy, SCHEDULE) is SCHEDULE
    assert carried(problem(), SCHEDULE, stop=lambda: True) is SCHEDULE


@pytest.mark.parametrize("held", [6, 7, 8, 9])
def test_of_a_training_step_it_is_never_longer(held: int) -> None:
    given = training(4, held=held)
    schedule = best_evict_schedule(given, value_table(given.graph, given.budget))
    assert schedule is not None
    found = carried(given, schedule)
    before, after = judged_cost(given, schedule), judged_cost(given, found)
    assert before is not None
    assert after is not None
    assert after <= before


@pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))
def test_a_solve_for_time_carries_over_and_stays_above_its_bound() -> None:
    given = problem()
    found = solve(given, SolveLimits(wall_seconds=20, moves=2000))
    best = seconds(given, found.schedule)
    assert best == 2.0  # the moment fits beside everything: nothing is paged
    smaller = training(4, held=7)
    limits = SolveLimits(wall_seconds=20, moves=20_000)
    answer = solve(smaller, limits)
    assert answer.bound.value <= seconds(smaller, answer.schedule) + 1e-9
    # and such a schedule is as good a start as any other
    again = solve(smaller, limits, start=carried(smaller, answer.schedule))
    assert again.cost <= answer.cost
