"""`frontier`: a monotone front, whoever computes it, and what is left of one that was stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest

from poet_core.bounds import ram_floor
from poet_core.errors import UsageError
from poet_core.plan import Allowed, Bound, HoldsFor, Plan, Problem
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import first_runs
from poet_solvers.frontier import Frontier, frontier
from poet_solvers.frontier_points import (
    FrontierPoint,
    PointEnding,
    default_budgets,
    dominated,
    monotone,
    with_ram,
)
from poet_solvers.frontier_work import PointAnswer, PointTask, Wanted, solve_point
from poet_solvers.planner import plan
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

MOVES = SolveLimits(wall_seconds=30, moves=5_000, threads=1)
QUICK = SolveLimits(wall_seconds=0.4, threads=1)


def step() -> Problem:
    """One Adam step of a small MLP, whole."""
    return mlp_problem(mlp_adam_step((64, 80, 10), batch=20), 1.0)


def chain(ram_bytes: int, *, page: bool = True, rematerialize: bool = True) -> Problem:
    """POET's unit chain of 5 nodes: everything kept takes 4 bytes, the floor is 3."""
    allowed = Allowed(page=page, rematerialize=rematerialize, reorder=False)
    return unit_chain(2, ram_bytes, 0.4, allowed)


def checked(found: Frontier) -> Frontier:
    """Judged again, monotone in cost and in bound, bounds below costs."""
    points = found.points
    assert [p.ram_bytes for p in points] == sorted({p.ram_bytes for p in points}, reverse=True)
    for point in points:
        assert (point.plan is not None) == (point.ending is PointEnding.PLANNED)
        if point.plan is not None:
            assert point.plan.budget == with_ram(found.problem, point.ram_bytes).budget
            verify(found.problem.graph, point.plan)
            assert point.plan.bound is not None
            assert point.plan.bound.value <= point.plan.objective_value
    costs = [point.plan.objective_value for point in points if point.plan is not None]
    assert all(tighter >= looser * (1 - 1e-9) for looser, tighter in pairwise(costs))
    return found


def figures(found: Frontier) -> list[tuple[int, str, object]]:
    return [
        (p.ram_bytes, p.ending.name, p.plan and (p.plan.schedule, p.plan.claims))
        for p in found.points
    ]


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


def test_cancelling_keeps_what_is_finished() -> None:
    problem, cancel = step(), threading.Event()
    long = SolveLimits(wall_seconds=60, threads=1)
    began = time.monotonic()
    found = checked(
        frontier(problem, points=6, limits=long, cancel=cancel, on_point=lambda _: cancel.set())
    )
    assert time.monotonic() - began < 5
    assert found.cancelled
    assert found.points[0].ending is PointEnding.PLANNED
    assert {point.ending for point in found.points[1:]} == {PointEnding.NOT_TRIED}


def test_cancelling_reaches_other_processes(tmp_path) -> None:
    problem, cancel = step(), threading.Event()
    store = tmp_path / "front.jsonl"
    budgets = default_budgets(problem, 6)[1:]
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawned) as processes:
        list(processes.map(abs, range(4)))  # processes that are there already
        stop = threading.Timer(2.0, cancel.set)
        stop.start()
        began = time.monotonic()
        found = checked(
            frontier(
                problem,
                ram_bytes=budgets,
                limits=SolveLimits(wall_seconds=100, threads=1),
                executor=processes,
                jobs=2,
                store=store,
                cancel=cancel,
            )
        )
        assert time.monotonic() - began < 10
    assert found.cancelled
    assert found.points[0].plan is not None
    assert len(store.read_bytes().splitlines()) < len(budgets)  # what was cut short is not finished


def test_the_total_time_is_shared() -> None:
    problem = step()
    began = time.monotonic()
    found = checked(frontier(problem, points=6, total_seconds=2.0))
    assert time.monotonic() - began < 6
    assert sum(point.ending is PointEnding.PLANNED for point in found.points) >= 5


class Fragile(ProcessPoolExecutor):
    """Its processes die at their first task."""

    def submit(self, _work, /, *_arguments, **_named):
        return super().submit(os._exit, 1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_dead_worker_is_named(jobs: int) -> None:
    problem = step()
    with Fragile(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        found = checked(frontier(problem, points=4, executor=processes, jobs=jobs))
    died = [point for point in found.points if point.error_code == "worker_died"]
    assert len(died) == jobs
    assert all(point.ending is PointEnding.UNDECIDED for point in died)
    others = [point for point in found.points if point not in died]
    assert {point.ending for point in others} == {PointEnding.NOT_TRIED}


def test_tasks_and_answers_can_be_pickled_and_a_dropped_file_ends_a_task() -> None:
    problem = with_ram(step(), default_budgets(step(), 4)[2])
    with Wanted() as wanted:
        task = PointTask(
            problem=problem,
            limits=SolveLimits(wall_seconds=60, threads=1),
            backend="highs",
            planner="portfolio",
            start=plan(with_ram(problem, default_budgets(problem, 4)[3]), limits=QUICK),
            wanted_file=wanted.name,
        )
        assert pickle.loads(pickle.dumps(task)) == task
        threading.Timer(0.5, wanted.drop).start()
        began = time.monotonic()
        answer = solve_point(task)
        assert time.monotonic() - began < 5
    assert (answer.whole, answer.settled) == (False, False)
    assert pickle.loads(pickle.dumps(answer)) == answer


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


# -- resuming ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Problem, tuple[int, ...], bytes, Frontier]:
    problem = step()
    budgets = default_budgets(problem, 4)
    path = tmp_path_factory.mktemp("front") / "front.jsonl"
    found = frontier(problem, ram_bytes=budgets, limits=MOVES, store=path)
    return problem, budgets, path.read_bytes(), found


@pytest.fixture
def finished(tmp_path, stored):
    """A problem, its budgets, the store of a frontier (a file of the test's own), that frontier."""
    problem, budgets, lines, found = stored
    path = tmp_path / "front.jsonl"
    path.write_bytes(lines)
    return problem, budgets, path, found


def resumed(problem: Problem, budgets: tuple[int, ...], path, **arguments) -> Frontier:
    arguments = {"limits": MOVES} | arguments
    return checked(frontier(problem, ram_bytes=budgets, store=path, resume=True, **arguments))


def test_a_restart_plans_nothing_that_is_finished(finished, monkeypatch) -> None:
    problem, budgets, path, first = finished
    monkeypatch.setattr("poet_solvers.frontier.solve_point", None)
    again = resumed(problem, budgets, path)
    assert figures(again) == figures(first)
    assert all(point.resumed for point in again.points)
    assert again.warnings == ()


def test_a_line_cut_short_is_skipped_and_its_point_planned_again(finished) -> None:
    problem, budgets, path, first = finished
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 100])
    again = resumed(problem, budgets, path)
    assert figures(again) == figures(first)
    assert [point.resumed for point in again.points].count(False) == 1
    assert len(again.warnings) == 1
    assert f"Line {len(budgets)}" in again.warnings[0]
    once_more = resumed(problem, budgets, path)
    assert all(point.resumed for point in once_more.points)


def test_foreign_lines_are_skipped(finished) -> None:
    problem, budgets, path, _ = finished
    lines = path.read_bytes().splitlines(keepends=True)
    changed = json.loads(lines[-1])
    changed["plan"]["instructions"] = changed["plan"]["instructions"][1:]
    path.write_bytes(
        b'{"a": 1}\n\n[]\nhello\n\xff\xfe\n' + b"[" * 5000 + b"\n" + b"".join(lines[:-1])
        + json.dumps(changed).encode() + b"\n"
    )  # fmt: skip
    again = resumed(problem, budgets, path)
    assert len(again.warnings) == 6
    assert [point.resumed for point in again.points].count(False) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"limits": replace(MOVES, seed=1)},
        {"limits": replace(MOVES, wall_seconds=1000.0)},
        {"backend": "highs"},
    ],
)
def test_points_of_another_seed_backend_or_shorter_time_are_planned_again(finished, other) -> None:
    problem, budgets, path, _ = finished
    settled = [json.loads(line)["settled"] for line in path.read_bytes().splitlines()]
    again = resumed(problem, budgets[:3], path, **other)
    if "wall_seconds=1000" in repr(other):
        assert [p.resumed for p in again.points].count(True) == sum(settled[:3])
    else:
        assert not any(point.resumed for point in again.points)
        assert "another problem, planner or seed" in again.warnings[0]


def test_another_problem_has_the_file_too(finished) -> None:
    problem, budgets, path, _ = finished
    timed = replace(problem, budget=replace(problem.budget, step_seconds=1e9))
    again = resumed(timed, budgets[:1], path)
    assert not again.points[0].resumed
    assert all(point.resumed for point in resumed(problem, budgets, path).points)


def test_without_resume_the_file_begins_anew(finished) -> None:
    problem, budgets, path, _ = finished
    frontier(problem, ram_bytes=budgets[:1], limits=QUICK, store=path)
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_store_that_cannot_be_written_is_refused(tmp_path, resume) -> None:
    with pytest.raises(UsageError) as refused:
        frontier(chain(9), limits=QUICK, store=tmp_path / "no" / "x", resume=resume)
    assert refused.value.code == "file_unwritable"
    with pytest.raises(UsageError) as refused:
        frontier(chain(9), limits=QUICK, store=tmp_path, resume=resume)
    assert refused.value.code in ("file_unwritable", "file_unreadable")
