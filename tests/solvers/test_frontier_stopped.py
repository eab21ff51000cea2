"""A frontier whose time is up, that is cancelled, or whose processes die keeps what is finished."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from poet_solvers.backends import SolveLimits
from poet_solvers.frontier import frontier
from poet_solvers.frontier_points import PointEnding, default_budgets, with_ram
from poet_solvers.frontier_work import PointTask, Wanted, solve_point
from poet_solvers.planner import plan
from tests.solvers.frontier_cases import QUICK, checked, step


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
