"""`solve`: one call, judged answers, figures that agree, an end that comes when it is asked for."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Allowed, Bound, HoldsFor, Objective, Problem
from poet_core.simulate import simulate
from poet_solvers import model_input, portfolio
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import Desk, Progress
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.portfolio import solve
from poet_solvers.read_sequence import read_sequence
from poet_solvers.search import native_missing
from poet_solvers.solution import Ending, Solution
from tests.measuring import least_seconds
from tests.solvers.milp_cases import random_problems, unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

needs_native = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def checked(problem: Problem, answer: Solution) -> Solution:
    """The solution, judged again, with figures that agree with each other."""
    judgement = simulate(
        problem.graph, problem.costs, problem.budget, answer.schedule, problem.allowed
    )
    assert judgement == answer.judgement
    assert answer.bound.value <= answer.cost
    assert answer.base_cost <= answer.cost * (1 + 1e-12)
    assert answer.history[-1].cost == answer.cost
    assert all(later.cost <= earlier.cost for earlier, later in pairwise(answer.history))
    assert all(later.seconds >= earlier.seconds for earlier, later in pairwise(answer.history))
    assert answer.ending.proven == (answer.gap <= 1e-9)
    return answer


def test_what_fits_is_answered_at_once() -> None:
    problem = mlp_problem(mlp_adam_step(), 1.0)
    answer = checked(problem, solve(problem))
    assert answer.ending is Ending.FITS
    assert (answer.found_by, answer.overhead, answer.gap) == ("keep-everything", 0.0, 0.0)


def test_the_end_comes_when_bound_and_plan_meet() -> None:
    problem = unit_chain(5, 4, 5.0, Allowed(reorder=False))
    answer = checked(problem, solve(problem, SolveLimits(wall_seconds=60)))
    assert answer.ending is Ending.PROVEN
    assert answer.cost == pytest.approx(14)
    assert answer.wall_seconds < 30
    assert answer.overhead == pytest.approx(3 / 11)
    assert answer.overhead_gap == pytest.approx(0, abs=1e-9)


def test_a_proof_for_one_order_does_not_end_the_look_for_others() -> None:
    problem = unit_chain(4, 3, 5.0, Allowed())
    answer = checked(problem, solve(problem, SolveLimits(wall_seconds=10)))
    assert answer.cost == pytest.approx(15)
    assert answer.ending in (Ending.PROVEN, Ending.PROVEN_FOR_ORDER)
    if answer.ending is Ending.PROVEN_FOR_ORDER:
        assert answer.bound.holds_for in (HoldsFor.GIVEN_ORDER, HoldsFor.PLAN_ORDER)


def test_progress_tells_falling_costs_and_bounds_below_them() -> None:
    said: list[Progress] = []
    problem = mlp_problem(mlp_adam_step(), 0.5)
    solve(problem, SolveLimits(wall_seconds=5), said.append)
    costs = [one.incumbent for one in said if one.incumbent is not None]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 1
    assert all(one.bound <= one.incumbent for one in said if one.incumbent and one.bound)


@pytest.mark.alone
@pytest.mark.parametrize("after_seconds", [0.0, 0.3, 1.5])
def test_a_cancelled_solve_ends_within_a_second_with_its_best(after_seconds: float) -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4)

    def attempt() -> float:
        cancel = threading.Event()
        timer = threading.Timer(after_seconds, cancel.set)
        timer.start()
        began = time.monotonic()
        answer = checked(problem, solve(problem, SolveLimits(wall_seconds=60), cancel=cancel))
        took = time.monotonic() - began
        timer.join()
        if answer.ending is Ending.CANCELLED:
            return took
        assert answer.ending.proven  # done before anybody asked
        return 0.0

    assert least_seconds(attempt, after_seconds + 1.0) < after_seconds + 1.0


@needs_native
def test_a_number_of_moves_gives_the_same_schedule_every_time() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4)
    limits = SolveLimits(wall_seconds=60, moves=20_000, seed=3)
    one, other = (solve(problem, limits) for _ in range(2))
    assert one.schedule == other.schedule
    assert checked(problem, one).cost == other.cost


def test_without_the_native_part_there_are_plans_and_they_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portfolio, "native_missing", lambda: "No compiler was there.")
    problem = mlp_problem(mlp_adam_step(), 0.5)
    answer = checked(problem, solve(problem, SolveLimits(wall_seconds=5)))
    assert "No compiler was there." in answer.status
    assert all(one.by != "search" for one in answer.history)


@needs_native
def test_an_error_in_a_worker_is_raised_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("broken worker")

    monkeypatch.setattr(portfolio, "search_schedule", broken)
    problem = mlp_problem(mlp_adam_step(), 0.4)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match="broken worker"):
        solve(problem, SolveLimits(wall_seconds=60))
    assert time.monotonic() - began < 20  # the other one does not use up the time


@pytest.fixture
def no_first_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but the judged MILP finds a plan."""
    monkeypatch.setattr(portfolio, "best_evict_schedule", lambda *_args: None)
    monkeypatch.setattr(portfolio, "best_greedy_sequence", lambda *_args, **_kwargs: None)
    monkeypatch.setattr(portfolio, "native_missing", lambda: "No compiler was there.")
    monkeypatch.setattr(portfolio.Prover, "run", lambda *_args: None)
    monkeypatch.setattr(portfolio.Prover, "first", lambda *_args: None)


@pytest.mark.usefixtures("no_first_plan")
def test_where_nobody_else_finds_a_plan_a_small_model_is_asked() -> None:
    answer = checked(
        unit_chain(4, 4, 5.0, Allowed()),
        solve(unit_chain(4, 4, 5.0, Allowed()), SolveLimits(wall_seconds=20)),
    )
    assert answer.found_by == "poet-milp/judged"
    assert "Optimal in the POET model" in answer.status


@pytest.mark.usefixtures("no_first_plan")
def test_a_model_too_large_to_be_asked_is_told_and_proves_nothing() -> None:
    with pytest.raises(PlanningError) as caught:
        solve(unit_chain(24, 3, 5.0, Allowed(page=False)), SolveLimits(wall_seconds=5))
    assert caught.value.code == "not_found_in_time"
    assert "that proves nothing. Tried: greedy, decoded relaxations. POET's MILP was not" in str(
        caught.value
    )
    assert f"tried up to {portfolio.EASY_DECISIONS}" in caught.value.message


@pytest.mark.usefixtures("no_first_plan")
def test_infeasible_is_said_where_the_whole_model_was_asked() -> None:
    with pytest.raises(PlanningError) as caught:
        solve(unit_chain(4, 4, 5.0, Allowed(page=False, rematerialize=False)))
    assert caught.value.code == "none_in_this_model"


def test_a_model_too_large_to_be_written_costs_no_plan(tmp_path: Path) -> None:
    problem = unit_chain(120, 9, 5.0, Allowed())
    said: list[Progress] = []
    answer = checked(
        problem,
        solve(problem, SolveLimits(wall_seconds=2), said.append, write_lp=tmp_path / "m.lp"),
    )
    assert f"{portfolio.NOT_WRITTEN} POET's model of these 241 ops has at least" in answer.status
    assert f"at most {model_input.MAX_DECISIONS} are built." in answer.status
    assert any(one.message.startswith(portfolio.NOT_WRITTEN) for one in said)
    assert not (tmp_path / "m.lp").exists()


def test_a_model_is_written_where_the_portfolio_would_not_ask_it(tmp_path: Path) -> None:
    problem = unit_chain(20, 5, 5.0, Allowed())
    solve(problem, SolveLimits(wall_seconds=2), write_lp=tmp_path / "m.lp")
    assert "Minimize" in (tmp_path / "m.lp").read_text(encoding="utf-8")


def test_a_start_is_taken_and_never_made_worse() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4)
    good = solve(problem, SolveLimits(wall_seconds=3))
    again = solve(problem, SolveLimits(wall_seconds=0.2), start=good.schedule)
    assert checked(problem, again).cost <= good.cost
    assert again.history[0].by == "start"


def test_a_start_for_less_ram_or_of_nonsense_is_judged_like_any_other() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4)
    kept = solve(mlp_problem(mlp_adam_step(), 1.0)).schedule
    answer = checked(problem, solve(problem, SolveLimits(wall_seconds=0.5), start=kept))
    assert all(one.by != "start" for one in answer.history)


def test_time_is_an_objective() -> None:
    problem = replace(mlp_problem(mlp_adam_step(), 0.5), objective=Objective.TIME)
    answer = checked(problem, solve(problem, SolveLimits(wall_seconds=3)))
    assert answer.cost == answer.judgement.step_seconds
    assert answer.base_cost == problem.costs.base_seconds


def test_random_problems_whatever_they_are() -> None:
    solved = 0
    codes: set[str] = set()
    for _seed, problem in random_problems(range(31_000, 31_040), most_ops=8, limits=True):
        try:
            answer = solve(problem, SolveLimits(wall_seconds=5), backend="highs")
        except (BudgetError, PlanningError) as error:
            codes.add(error.code)
            continue
        checked(problem, answer)
        solved += 1
    assert solved > 20
    assert codes <= {"none_in_this_model", "time_below_base"}


def test_a_schedule_read_as_a_sequence_costs_what_it_cost() -> None:
    read = 0
    for _seed, problem in random_problems(range(32_000, 32_060), most_ops=8, limits=False):
        try:
            found = solve(problem, SolveLimits(wall_seconds=1, moves=2_000), backend="highs")
        except PlanningError:
            continue
        if found.found_by != "search":
            continue
        model = step_model(problem)
        schedule = sequence_schedule(model, read_sequence(model, found.schedule))
        desk = Desk(problem, SolveLimits())
        assert desk.offer("again", schedule)
        best = desk.best()
        assert best is not None
        assert best.cost == pytest.approx(found.cost)
        read += 1
    assert read or native_missing() is not None


def test_the_desk_holds_a_plan_only_against_bounds_that_speak_of_it() -> None:
    problem = unit_chain(4, 3, 5.0, Allowed())
    desk = Desk(problem, SolveLimits())
    assert desk.offer("answer", solve(problem, SolveLimits(wall_seconds=3)).schedule)
    best = desk.best()
    assert best is not None
    other = (*best.order[1:], best.order[0])
    strong = Bound(value=best.cost, holds_for=HoldsFor.PLAN_ORDER, by="a test")
    desk.take(strong, other)
    assert not desk.met()
    desk.take(strong, best.order)
    assert desk.met()
    assert not desk.proven()
    desk.take(replace(strong, holds_for=HoldsFor.ANY_ORDER))
    assert desk.proven()
    assert desk.done()


def test_patience_ends_a_solve_in_which_nothing_gets_better() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4)
    limits = SolveLimits(wall_seconds=60, patience_seconds=0.5)
    answer = checked(problem, solve(problem, limits))
    assert answer.wall_seconds < 30
    if not answer.ending.proven:
        assert answer.ending in (Ending.PATIENCE, Ending.EXHAUSTED)
