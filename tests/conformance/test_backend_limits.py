"""Conformance: what a limit asks for is kept by every solver, and a limit that was hit proves nothing."""

import threading
import time

import pytest

from poet_solvers.backends import SolveLimits, SolveStatus, solve_model
from poet_solvers.backends.process import GRACE_SECONDS
from tests.conformance.backends import QUICK, every_backend
from tests.measuring import least_seconds
from tests.solvers.models import knapsack, market_split

pytestmark = pytest.mark.alone

TEN = {
    "weights": [31, 41, 59, 26, 53, 58, 97, 93, 23, 84],
    "values": [30.0, 44.0, 55.0, 29.0, 50.0, 61.0, 95.0, 90.0, 27.0, 80.0],
    "capacity": 300,
}
_SAYS_THAT_IT_STARTED_FROM_IT = {
    "cbc": "MIPStart provided solution",
    "highs": "MIP start solution is feasible",
    "gurobi": "Loaded user MIP start",
}


@every_backend
def test_a_time_out_with_an_incumbent_is_feasible_and_never_optimal(backend):
    limits = SolveLimits(wall_seconds=0.5, threads=1)
    result = solve_model(market_split(with_slack=True), backend=backend, limits=limits)
    assert result.status is SolveStatus.FEASIBLE
    assert result.objective is not None
    assert result.bound is not None
    assert 0 <= result.bound < result.objective
    assert result.relative_gap == pytest.approx(1 - result.bound / result.objective)
    assert len(result.values) == 50


@every_backend
@pytest.mark.parametrize("wall_seconds", [0.001, 0.1, 0.5])
def test_a_time_out_without_one_is_not_found_and_never_infeasible(backend, wall_seconds):
    limits = SolveLimits(wall_seconds=wall_seconds, threads=1)
    result = solve_model(market_split(with_slack=False), backend=backend, limits=limits)
    assert result.status is SolveStatus.NOT_FOUND
    assert (result.objective, result.values) == (None, {})


@every_backend
def test_a_gap_that_was_asked_for_is_optimal_with_an_honest_bound(backend):
    problem = knapsack(**TEN)
    exact = solve_model(problem, backend=backend, limits=QUICK)
    loose = solve_model(problem, backend=backend, limits=SolveLimits(relative_gap=0.2, threads=1))
    assert loose.status is exact.status is SolveStatus.OPTIMAL
    assert exact.objective == exact.bound
    assert loose.objective <= exact.objective <= loose.bound <= loose.objective * 1.25


@every_backend
def test_a_warm_start_is_used(backend):
    """Whole or partial: the solver says that it took it, and never ends with a worse point."""
    problem = market_split(with_slack=True)
    known = solve_model(problem, limits=SolveLimits(wall_seconds=0.6, threads=1))
    partial = {name: value for name, value in known.values.items() if name.startswith("buy_")}
    for start in (known.values, partial):
        result = solve_model(
            problem,
            backend=backend,
            limits=SolveLimits(wall_seconds=0.6, threads=1),
            warm_start=start,
        )
        assert _SAYS_THAT_IT_STARTED_FROM_IT[backend] in result.log_tail
        assert result.objective <= known.objective + 1e-9


@every_backend
def test_a_model_that_takes_longer_to_read_than_there_is_time_proves_nothing(backend):
    """HiGHS's reader gives up at its limit, and an empty model is optimal."""
    problem = market_split(with_slack=True, rows=40, columns=400)
    limits = SolveLimits(wall_seconds=0.02, threads=1)
    started = time.monotonic()
    result = solve_model(problem, backend=backend, limits=limits)
    assert result.status in (SolveStatus.NOT_FOUND, SolveStatus.FEASIBLE)
    assert (result.objective is None) == (result.status is SolveStatus.NOT_FOUND)
    assert time.monotonic() - started < GRACE_SECONDS + 3


@every_backend
def test_a_seed_gives_the_same_answer_twice_and_may_be_any_number(backend):
    problem = market_split(with_slack=True, rows=2, columns=20)
    for seed in (0, 7, 2**31 - 1, 2**40):
        limits = SolveLimits(wall_seconds=20, threads=1, seed=seed)
        one, other = (solve_model(problem, backend=backend, limits=limits) for _ in range(2))
        assert one.status is SolveStatus.OPTIMAL
        assert (one.values, one.objective) == (other.values, other.objective)


@every_backend
@pytest.mark.parametrize("threads", [2, 200])
def test_more_threads_than_cores_change_no_optimum(backend, threads):
    limits = SolveLimits(wall_seconds=20, threads=threads)
    assert solve_model(knapsack(**TEN), backend=backend, limits=limits).objective == 306.0


@every_backend
def test_the_memory_of_a_solve_is_reported(backend):
    """More for a larger model, and no more than what a cap allows."""
    cap_bytes = 2_000_000_000
    limits = SolveLimits(wall_seconds=0.5, threads=1, memory_bytes=cap_bytes)
    small = solve_model(knapsack(**TEN), backend=backend, limits=limits)
    large = solve_model(
        market_split(with_slack=True, rows=40, columns=400), backend=backend, limits=limits
    )
    assert 5_000_000 < small.peak_memory_bytes < large.peak_memory_bytes < cap_bytes


@every_backend
@pytest.mark.parametrize(("rows", "columns"), [(5, 40), (60, 600)])
def test_a_solve_that_needs_more_than_its_memory_says_so(backend, rows, columns):
    """Before it has read the model or after, by exception or by crash: it is one status."""
    cap_bytes = 20_000_000
    limits = SolveLimits(wall_seconds=20, threads=1, memory_bytes=cap_bytes)
    problem = market_split(with_slack=True, rows=rows, columns=columns)
    result = solve_model(problem, backend=backend, limits=limits)
    assert result.status is SolveStatus.MEMORY
    assert "the cap was 19.1 MiB of address space; it held " in result.message
    assert (result.objective, result.bound, result.values) == (None, None, {})
    assert 0 < result.peak_memory_bytes <= cap_bytes


@every_backend
@pytest.mark.parametrize("after_seconds", [0.0, 0.03, 0.5])
def test_a_cancel_is_answered_within_a_second(backend, after_seconds):
    def attempt():
        cancel = threading.Event()
        asked = []

        def stop():
            asked.append(time.monotonic())
            cancel.set()

        timer = threading.Timer(after_seconds, stop)
        timer.start()
        result = solve_model(market_split(with_slack=True), backend=backend, cancel=cancel)
        took = time.monotonic() - asked[0]
        assert result.status is SolveStatus.CANCELLED
        timer.join()
        return took

    assert least_seconds(attempt, 1.0) < 1.0


@every_backend
def test_the_same_model_solved_by_four_threads_at_once(backend):
    """Nothing is shared: neither files, nor processes, nor the model, which is only read."""
    problem = knapsack(**TEN)
    alone = solve_model(problem, backend=backend, limits=QUICK)
    together = []
    threads = [
        threading.Thread(
            target=lambda: together.append(solve_model(problem, backend=backend, limits=QUICK))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.values for result in together] == [alone.values] * 4
    assert {result.objective for result in together} == {306.0}
