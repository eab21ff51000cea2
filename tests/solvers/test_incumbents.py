"""`on_incumbent`: better and better judged plans while a solve goes on, and the last one always."""

from __future__ import annotations

import threading
import time
from itertools import pairwise

import pytest

from poet_core.errors import PlanningError
from poet_core.plan import Allowed, Plan
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import Desk
from poet_solvers.evict import best_evict_schedule, judged_cost
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.incumbents import telling
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.planner import plan
from poet_solvers.portfolio import solve
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from poet_solvers.solution import Ending
from poet_solvers.values import value_table
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

needs_native = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def test_each_is_judged_and_better_than_the_one_before() -> None:
    told: list[Plan] = []
    problem = mlp_problem(mlp_adam_step(), 0.5)
    answer = plan(problem, limits=SolveLimits(wall_seconds=4), on_incumbent=told.append)
    assert told
    for one in told:
        verify(problem.graph, one)
        assert one.bound is not None
        assert one.bound.value <= one.objective_value
        assert one.planned_by.status.startswith(Ending.GOES_ON.sentence)
    figures = [(one.claims.energy_joules, one.claims.step_seconds) for one in told]
    assert all(later < earlier for earlier, later in pairwise(figures))
    assert told[-1].schedule == answer.schedule


def test_a_plan_that_needs_no_search_is_told_too() -> None:
    told: list[Plan] = []
    problem = mlp_problem(mlp_adam_step(), 1.0)
    answer = plan(problem, on_incumbent=told.append)
    assert [one.schedule for one in told] == [answer.schedule]


@needs_native
def test_what_is_overtaken_at_once_is_left_out_and_the_last_is_not() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.5)
    sequence = best_greedy_sequence(problem)
    assert sequence is not None
    dear = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
    middle = sequence_schedule(step_model(problem), sequence)
    cheap = search_schedule(problem, limits=SearchLimits(moves=20_000))
    # Whichever heuristic is the dearer here, both lose to the search.
    first, second, last = sorted(
        filter(None, (dear, middle, cheap)), key=lambda one: -(judged_cost(problem, one) or 0)
    )
    told: list[Plan] = []
    heard = threading.Event()

    def listen(one: Plan) -> None:
        told.append(one)
        heard.set()

    desk = Desk(problem, SolveLimits())
    with telling(desk, SolveLimits(), listen):
        assert desk.offer("first", first)
        assert heard.wait(10)
        assert desk.offer("second", second)
        assert desk.offer("last", last)
    assert [one.schedule for one in told] == [first, last]


def test_a_slow_listener_delays_only_itself() -> None:
    problem = unit_chain(5, 4, 5.0, Allowed(reorder=False))
    quick = solve(problem, SolveLimits(wall_seconds=60))
    open_again, told = threading.Event(), list[Plan]()

    def listen(one: Plan) -> None:
        told.append(one)
        open_again.wait(0.5)

    slow = solve(problem, SolveLimits(wall_seconds=60), on_incumbent=listen)
    assert slow.cost == quick.cost
    assert told[-1].objective_value == pytest.approx(slow.cost)


def test_what_a_listener_raises_ends_the_solve() -> None:
    class FullError(Exception):
        pass

    def full(_plan: Plan) -> None:
        raise FullError

    began = time.monotonic()
    with pytest.raises(FullError):
        solve(
            mlp_problem(mlp_adam_step(), 0.4),
            SolveLimits(wall_seconds=60, moves=None),
            on_incumbent=full,
        )
    assert time.monotonic() - began < 20


def test_nothing_is_told_where_there_is_no_plan() -> None:
    told: list[Plan] = []
    cancel = threading.Event()
    cancel.set()
    problem = unit_chain(5, 3, 5.0, Allowed(page=False, rematerialize=False, reorder=False))
    with pytest.raises(PlanningError):
        solve(problem, cancel=cancel, on_incumbent=told.append)
    assert told == []
