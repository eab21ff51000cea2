"""`frontier`: a monotone front, whoever computes it."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest

from poet_core.bounds import ram_floor
from poet_core.errors import UsageError
from poet_core.plan import Bound, HoldsFor, Plan
from poet_core.verify import verify
from poet_solvers.desk import first_runs
from poet_solvers.frontier import frontier
from poet_solvers.frontier_points import (
    FrontierPoint,
    PointEnding,
    default_budgets,
    dominated,
    monotone,
    with_ram,
)
from poet_solvers.frontier_work import PointAnswer, PointTask, solve_point
from poet_solvers.planner import plan
from tests.solvers.frontier_cases import MOVES, QUICK, chain, checked, figures, step


def test_the_default_budgets_go_from_the_peak_to_the_floor() -> None:
    problem = step()
    budgets = default_budgets(problem, 12)
    floor = ram_floor(problem.graph, problem.budget).floor_bytes
    found = frontier(problem, ram_bytes=(budgets[0], budgets[0] - 1), limits=QUICK)
    assert (len(budgets), budgets[-1]) == (12, floor)
    assert int(floor * 1.05) in budgets
    assert found.points[0].found_by == "keep-everything"
    assert found.points[1].found_by != "keep-everything"
    assert default_budgets(problem, 1) == (budgets[0],)
    assert default_budgets(problem, 2) == (budgets[0], floor)


def test_a_front_is_monotone_and_the_same_wherever_it_is_computed() -> None:
    problem = step()
    heard: list[int] = []
    here = checked(
        frontier(problem, points=4, limits=MOVES, on_point=lambda p: heard.append(p.ram_bytes))
    )
    assert set(heard) == {point.ram_bytes for point in here.points}
    assert here.points[0].plan is not None
    assert here.points[-1].plan is not None
    assert here.points[-1].plan.claims.energy_joules > here.points[0].plan.claims.energy_joules
    assert not here.cancelled
    with ThreadPoolExecutor(2) as threads:
        there = frontier(problem, points=4, limits=MOVES, executor=threads, jobs=2)
    assert figures(there) == figures(here)
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as processes:
        there = frontier(problem, points=4, limits=MOVES, executor=processes, jobs=2)
    assert figures(there) == figures(here)


def test_a_budget_below_the_floor_is_proven_impossible() -> None:
    problem = step()
    floor = ram_floor(problem.graph, problem.budget).floor_bytes
    found = checked(frontier(problem, ram_bytes=(floor, floor - 1, floor), limits=QUICK))
    assert [point.ending for point in found.points] == [
        PointEnding.PLANNED, PointEnding.IMPOSSIBLE,
    ]  # fmt: skip
    assert found.points[1].error_code == "ram_below_floor"
    assert str(floor) in found.points[1].error


@pytest.mark.alone
def test_a_budget_without_an_answer_is_undecided() -> None:
    """One wide chain without paging or second runs: the floor is met by no schedule."""
    problem = chain(3, page=False, rematerialize=False)
    floor = ram_floor(problem.graph, problem.budget, paging=False).floor_bytes
    found = checked(frontier(problem, ram_bytes=(floor, 10**6), limits=QUICK))
    assert [point.ending for point in found.points] == [
        PointEnding.PLANNED, PointEnding.UNDECIDED,
    ]  # fmt: skip
    assert found.points[1].error_code == "none_in_this_model"
    assert found.front == found.points[:1]


def test_a_tighter_plan_stands_in_where_a_looser_budget_has_none_as_cheap() -> None:
    """What the time did not allow, `monotone` takes from the neighbours, with bounds that hold."""
    problem = step()
    budgets = default_budgets(problem, 4)
    tight = plan(with_ram(problem, budgets[2]), limits=MOVES)
    untried = FrontierPoint(ram_bytes=budgets[1], ending=PointEnding.NOT_TRIED)
    known = FrontierPoint(ram_bytes=budgets[2], ending=PointEnding.PLANNED, plan=tight)
    looser, tighter = monotone(problem, (known, untried))
    assert looser.plan is not None
    assert (looser.ending, looser.from_ram_bytes) == (PointEnding.PLANNED, budgets[2])
    assert looser.plan.schedule == tight.schedule
    assert looser.plan.budget.ram_bytes == budgets[1]
    assert looser.plan.bound is not None
    assert looser.plan.bound.value <= problem.costs.base_joules  # the tighter one's says nothing
    assert dominated((looser, tighter)) == {budgets[1]}
    verify(problem.graph, looser.plan)


def bounded(plan: Plan, value: float, holds_for: HoldsFor) -> Plan:
    return replace(plan, bound=Bound(value=value, holds_for=holds_for, by="a test"))


def test_a_bound_for_more_ram_bounds_less_ram_where_it_speaks_of_the_plan() -> None:
    problem = chain(10)
    plain = plan(with_ram(problem, 10), limits=QUICK)
    paged = plan(with_ram(problem, 3), limits=QUICK)
    cost, base = paged.objective_value, plain.objective_value
    assert first_runs(paged.schedule) == first_runs(plain.schedule)

    def tightened(holds_for: HoldsFor, tight: Plan) -> Bound:
        points = monotone(
            problem,
            [
                FrontierPoint(
                    ram_bytes=10, ending=PointEnding.PLANNED,
                    plan=bounded(replace(paged, budget=plain.budget), cost, holds_for),
                ),
                FrontierPoint(
                    ram_bytes=3, ending=PointEnding.PLANNED,
                    plan=bounded(tight, base, HoldsFor.ANY_ORDER),
                ),
            ],
        )  # fmt: skip
        plan_there = points[1].plan
        assert plan_there is not None
        assert plan_there.bound is not None
        return plan_there.bound

    for holds_for in HoldsFor:
        assert tightened(holds_for, paged).value == cost
        assert "10 bytes of RAM" in tightened(holds_for, paged).by
    runs = paged.schedule.instructions
    reordered = replace(paged, schedule=replace(paged.schedule, instructions=tuple(reversed(runs))))
    assert tightened(HoldsFor.ANY_ORDER, reordered).value == cost
    assert tightened(HoldsFor.GIVEN_ORDER, reordered).value == base
    assert tightened(HoldsFor.PLAN_ORDER, reordered).value == base


def test_points_begin_with_the_plans_of_tighter_ones(monkeypatch) -> None:
    """Every other budget on its own; a point without a plan has another turn, from one that has."""
    problem = step()
    budgets = default_budgets(problem, 5)
    tasks: list[tuple[int, bool]] = []

    def forgetful(task: PointTask, cancel: threading.Event) -> PointAnswer:
        ram_bytes = task.problem.budget.ram_bytes
        tasks.append((ram_bytes, task.start is not None))
        if ram_bytes == budgets[2] and task.start is None:
            return PointAnswer(ending=PointEnding.UNDECIDED)
        return solve_point(task, cancel)

    monkeypatch.setattr("poet_solvers.frontier.solve_point", forgetful)
    found = checked(frontier(problem, ram_bytes=budgets, limits=QUICK))
    assert tasks[:5] == [
        (budgets[0], False), (budgets[2], False), (budgets[4], False),
        (budgets[1], False), (budgets[3], True),
    ]  # fmt: skip
    assert (budgets[2], True) in tasks[5:]
    assert found.points[2].plan is not None
    assert found.points[2].from_ram_bytes is None


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"ram_bytes": ()}, "size_invalid"),
        ({"ram_bytes": (0, 5)}, "size_invalid"),
        ({"points": 0}, "points_invalid"),
        ({"jobs": 0}, "jobs_invalid"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict, code: str) -> None:
    with pytest.raises(UsageError) as refused:
        frontier(chain(9), **wrong)
    assert refused.value.code == code
