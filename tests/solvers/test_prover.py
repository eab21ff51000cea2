"""The prover at a desk: bounds for the plan's order, decoded plans, time and cancelling."""

import threading
import time
from dataclasses import replace

import pytest

from poet_core.plan import Allowed, HoldsFor, Problem, Schedule
from poet_solvers.backends import SolveLimits
from poet_solvers.bounds.orders import in_order
from poet_solvers.bounds.prover import Prover
from poet_solvers.bounds.relaxation import Grid, relax_on
from poet_solvers.desk import Desk
from poet_solvers.evict import best_evict_schedule
from poet_solvers.values import value_table
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem
from tests.solvers.test_bounds import updated_weight


def desk_and_prover(
    problem: Problem, seconds: float, cancel: threading.Event | None = None
) -> tuple[Desk, Prover]:
    limits = SolveLimits(wall_seconds=seconds, threads=1)
    return Desk(problem, limits, cancel=cancel), Prover(problem, limits=limits, cancel=cancel)


def evicted(problem: Problem) -> Schedule | None:
    return best_evict_schedule(problem, value_table(problem.graph, problem.budget))


def test_a_decoded_relaxation_is_the_plan_and_its_proof() -> None:
    problem = unit_chain(4, 4, 1.0, Allowed(page=False, reorder=False))
    desk, prover = desk_and_prover(problem, 20)
    prover.run(desk)
    best = desk.best()
    assert best is not None
    assert best.by == "first-run relaxation"
    assert desk.proven()
    assert desk.bound().holds_for is HoldsFor.GIVEN_ORDER
    assert desk.bound().value == pytest.approx(best.cost)


def test_the_first_bound_holds_for_every_order() -> None:
    # The weight must leave while op 1 fills the RAM, in every order: paged in, and out once.
    desk, prover = desk_and_prover(updated_weight(5), 10)
    prover.first(desk)
    assert desk.bound().holds_for is HoldsFor.ANY_ORDER
    assert 3 < desk.bound().value <= 3.75


def test_a_plan_that_reorders_gets_a_bound_of_its_own_order() -> None:
    problem = updated_weight(5)
    listed = in_order(problem, (0, 2, 1))
    assert listed is not None
    assert [op.name for op in listed.problem.graph.ops] == ["use", "update", "big"]
    here = evicted(listed.problem)
    assert here is not None
    plan = listed.schedule_back(here)
    desk, prover = desk_and_prover(problem, 10)
    assert desk.offer("a friend", plan)
    best = desk.best()
    assert best is not None
    assert best.order == (0, 2, 1)
    prover.run(desk)
    bound = desk.bound()
    assert bound.holds_for is HoldsFor.PLAN_ORDER
    assert bound.value == pytest.approx(3.75)
    assert bound.value <= best.cost + 1e-9


def test_an_order_that_is_another_step_has_no_relaxation() -> None:
    problem = updated_weight(5)
    # "use" reads the weight before the update: after it, it would read another version.
    assert in_order(problem, (2, 0, 1)) is None
    assert in_order(problem, (0, 1, 2)) is not None


def test_cancelling_ends_the_prover_within_a_moment() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.4, "mkr1000")
    cancel = threading.Event()
    desk, prover = desk_and_prover(problem, 60, cancel)
    desk.offer("evict", evicted(problem))
    worker = threading.Thread(target=prover.run, args=(desk, lambda: True))
    worker.start()
    time.sleep(0.3)
    cancel.set()
    begun = time.monotonic()
    worker.join(timeout=10)
    assert not worker.is_alive()
    assert time.monotonic() - begun < 3


def test_no_time_left_is_no_error() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.6, "raspberry-pi-4b")
    desk, prover = desk_and_prover(problem, 0.05)
    prover.first(desk)
    prover.run(desk)
    assert desk.bound().value >= problem.costs.base_joules


def test_it_waits_for_plans_that_may_still_come() -> None:
    problem = updated_weight(5)
    desk, prover = desk_and_prover(problem, 30)
    searching = threading.Event()
    searching.set()
    worker = threading.Thread(target=prover.run, args=(desk, searching.is_set))
    worker.start()
    deadline = time.monotonic() + 20
    while not desk.met() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert desk.met()
    assert worker.is_alive() or desk.proven()
    searching.clear()
    worker.join(timeout=10)
    assert not worker.is_alive()


def test_a_second_run_between_checkpoints_is_counted_where_asked() -> None:
    # Chain of four with skips; RAM is counted at the ops of the backward half only.
    problem = unit_chain(4, 4, 1.0, Allowed(page=False))
    checkpoints = tuple(range(3, len(problem.graph.ops)))
    plain = relax_on(problem, Grid(checkpoints=checkpoints))
    pairs = frozenset((first, op) for first in checkpoints for op in range(first))
    counted = relax_on(problem, Grid(checkpoints=checkpoints, inside=pairs))
    assert len(counted.rows.rows) > len(plain.rows.rows)
    assert counted.rows.costs[: len(plain.rows.costs)] == plain.rows.costs


def test_the_first_bound_is_of_the_given_order_where_the_problem_keeps_it() -> None:
    problem = replace(updated_weight(5), allowed=Allowed(reorder=False))
    desk, prover = desk_and_prover(problem, 10)
    prover.first(desk)
    assert desk.bound().holds_for is HoldsFor.GIVEN_ORDER
    assert 3 < desk.bound().value <= 3.75
