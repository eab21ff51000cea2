"""`poet_milp_plan`: POET's model whole, its optima under the judge, its bound and its refusals."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from benchmarks.published_optima import row_problem
from benchmarks.published_rows import ROWS, PublishedRow, load_graph
from poet_core.errors import PlanningError
from poet_core.plan import Allowed
from poet_core.simulate import simulate
from poet_solvers.backends import SolveLimits, SolveStatus
from poet_solvers.model_input import MAX_DECISIONS
from poet_solvers.poet_milp_planner import poet_milp_plan
from poet_solvers.published_graph import unit_chain
from poet_solvers.published_problem import published_problem
from poet_solvers.values import value_table
from poet_solvers.windows import possible_runs, second_run_count
from tests.measuring import least_seconds
from tests.solvers.milp_cases import random_problems
from tests.solvers.milp_cases import unit_chain as chain_problem

LIMITS = SolveLimits(wall_seconds=60, threads=1)


def rows() -> list[PublishedRow]:
    """Of the instance files, one of each mode; of the chains, those above the trivial."""
    return [
        row for row in ROWS
        if not row.slow and row.ram_bytes in (3, 4, 3256, 31457280) and load_graph(row.graph)
        and row.graph not in ("unit-chain-5-5.0", "linear-m0")
    ]  # fmt: skip


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.title)
def test_the_judged_model_has_poets_optima(row: PublishedRow) -> None:
    graph = load_graph(row.graph)
    assert graph is not None
    problem = row_problem(row, graph)
    outcome = poet_milp_plan(problem, backend="highs", limits=LIMITS)
    assert outcome.formulation == "poet-milp/judged"
    if row.optimum_joules is None:
        assert (outcome.solve_status, outcome.schedule) == (SolveStatus.INFEASIBLE, None)
        return
    assert outcome.schedule is not None
    judged = simulate(
        problem.graph, problem.costs, problem.budget, outcome.schedule, problem.allowed
    )
    assert judged.energy_joules == pytest.approx(row.optimum_joules, rel=1e-6)
    assert outcome.model_bound == pytest.approx(row.optimum_joules, rel=1e-6)
    only_paging = row.mode == "page only"
    assert ("is none for schedules outside" in outcome.status) == (outcome.bound is None)
    assert not only_paging or outcome.bound == outcome.model_bound


def test_a_bound_of_the_model_alone_is_said_to_be_no_more() -> None:
    problem = chain_problem(3, 3, 5.0, Allowed())
    outcome = poet_milp_plan(problem, limits=LIMITS)
    assert (outcome.model_value, outcome.model_bound, outcome.bound) == (10, 10, None)
    assert outcome.status.endswith(
        "The model's bound, 10 J, is none for schedules outside of the model."
    )


def test_second_runs_are_counted_as_they_are_found() -> None:
    for _seed, problem in random_problems(range(40), most_ops=9):
        table = value_table(problem.graph, problem.budget)
        assert second_run_count(problem, table) == possible_runs(problem, table).extra_runs


@pytest.mark.parametrize("half", [200, 3000])
def test_a_model_that_would_not_fit_is_refused_before_it_is_built(half: int) -> None:
    problem = published_problem(unit_chain(half, page_joules=5.0), ram_bytes=9)
    started = time.monotonic()
    with pytest.raises(PlanningError) as caught:
        poet_milp_plan(problem)
    assert time.monotonic() - started < 5
    assert caught.value.code == "model_too_large"
    assert caught.value.details["ops"] == 2 * half + 1
    assert caught.value.details["decisions"] > MAX_DECISIONS
    assert "portfolio" in caught.value.hint


@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_a_solver_without_time_leaves_the_schedule_to_start_from(backend: str) -> None:
    problem = published_problem(unit_chain(20, page_joules=5.0), ram_bytes=5)
    outcome = poet_milp_plan(
        problem, backend=backend, limits=SolveLimits(wall_seconds=0.02, threads=1)
    )
    assert outcome.schedule is not None
    simulate(problem.graph, problem.costs, problem.budget, outcome.schedule, problem.allowed)
    if outcome.solve_status is SolveStatus.NOT_FOUND:
        assert outcome.formulation == "poet-milp/judged, start (evict)"
        assert "to start from is returned" in outcome.status


@pytest.mark.alone
@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_the_memory_of_the_solver_is_capped_and_reported(backend: str) -> None:
    problem = published_problem(unit_chain(20, page_joules=5.0), ram_bytes=5)
    limits = SolveLimits(wall_seconds=1, threads=1, memory_bytes=12_000_000)
    short = poet_milp_plan(problem, backend=backend, limits=limits)
    assert short.solve_status is SolveStatus.MEMORY
    assert "the cap was 11.4 MiB" in short.status
    assert short.schedule is not None
    small = chain_problem(3, 3, 5.0, Allowed())
    enough = poet_milp_plan(small, backend=backend, limits=LIMITS)
    assert enough.solver_memory_bytes is not None
    assert 1_000_000 < enough.solver_memory_bytes < 1_000_000_000


@pytest.mark.alone
def test_a_cancel_is_answered_within_a_second_while_the_model_is_built() -> None:
    problem = published_problem(unit_chain(60, page_joules=5.0), ram_bytes=12)

    def cancelled(after_seconds: float) -> float:
        cancel = threading.Event()
        asked: list[float] = []

        def stop() -> None:
            asked.append(time.monotonic())
            cancel.set()

        timer = threading.Timer(after_seconds, stop)
        timer.start()
        outcome = poet_milp_plan(problem, limits=LIMITS, cancel=cancel)
        took = time.monotonic() - asked[0]
        assert outcome.solve_status is SolveStatus.CANCELLED
        assert outcome.schedule is not None
        return took

    for after_seconds in (0.0, 0.2, 0.6):
        assert least_seconds(partial(cancelled, after_seconds), 1) < 1
