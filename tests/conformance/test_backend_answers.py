"""Conformance: every status that an answer can have, on models whose answer is known by hand."""

import os
import signal
import sys
import threading

import pulp
import pytest

from poet_solvers.backends import SolveLimits, SolveStatus, solve_model
from tests.conformance.backends import QUICK, every_backend
from tests.solvers.models import knapsack, market_split
from tests.solvers.solver_processes import solver_in, wait_until


@every_backend
def test_an_optimum_comes_with_values_bound_and_version(backend):
    result = solve_model(
        knapsack(weights=[3, 4, 5], values=[4.0, 5.0, 6.0], capacity=7),
        backend=backend,
        limits=QUICK,
    )
    assert result.status is SolveStatus.OPTIMAL
    assert result.objective == result.bound == 9.0
    assert result.values == {"take_0": 1.0, "take_1": 1.0, "take_2": 0.0}
    assert result.backend.split()[0] == backend
    assert result.relative_gap == 0.0
    assert result.seconds > 0


@every_backend
def test_continuous_negative_and_free_variables(backend):
    problem = pulp.LpProblem("mixed", pulp.LpMinimize)
    free = problem.add_variable("free")
    below = problem.add_variable("below", upBound=-1.5)
    whole = problem.add_variable("whole", -3.5, 8, pulp.LpInteger)
    problem.setObjective(free + 2 * below + whole)
    problem.addConstraint(free >= -10)
    problem.addConstraint(below - whole >= -1.25)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.status is SolveStatus.OPTIMAL
    assert result.values == pytest.approx({"free": -10, "below": -4.25, "whole": -3}, abs=1e-9)
    assert result.objective == pytest.approx(-21.5)


@every_backend
def test_a_purely_continuous_model(backend):
    problem = pulp.LpProblem("lp", pulp.LpMaximize)
    x, y = problem.add_variable("x", 0), problem.add_variable("y", 0)
    problem.setObjective(3 * x + 2 * y)
    problem.addConstraint(x + y <= 4)
    problem.addConstraint(x + 3 * y <= 6)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert (result.status, result.objective) == (SolveStatus.OPTIMAL, pytest.approx(12.0))


@every_backend
def test_a_model_without_rows_and_one_without_costs(backend):
    no_rows = pulp.LpProblem("no_rows", pulp.LpMinimize)
    no_rows.setObjective(2 * no_rows.add_variable("x", 3, 5))
    assert solve_model(no_rows, backend=backend, limits=QUICK).objective == 6.0
    no_costs = pulp.LpProblem("no_costs", pulp.LpMinimize)
    no_costs.setObjective(pulp.LpAffineExpression(constant=7))
    no_costs.addConstraint(no_costs.add_variable("y", cat=pulp.LpBinary) >= 1)
    result = solve_model(no_costs, backend=backend, limits=QUICK)
    assert (result.status, result.objective) == (SolveStatus.OPTIMAL, 7.0)
    assert result.values == {"y": 1.0}


@every_backend
def test_infeasible_by_its_relaxation_and_only_by_integrality(backend):
    relaxation = pulp.LpProblem("relaxation", pulp.LpMinimize)
    x = relaxation.add_variable("x", 0, 1)
    relaxation.setObjective(x)
    relaxation.addConstraint(x >= 2)
    parity = pulp.LpProblem("parity", pulp.LpMinimize)
    a, b = (parity.add_variable(name, 0, 9, pulp.LpInteger) for name in "ab")
    parity.setObjective(a)
    parity.addConstraint(2 * a + 4 * b == 7)
    for problem in (relaxation, parity):
        result = solve_model(problem, backend=backend, limits=QUICK)
        assert result.status is SolveStatus.INFEASIBLE
        assert (result.objective, result.bound, result.values) == (None, None, {})


@every_backend
def test_unbounded(backend):
    problem = pulp.LpProblem("unbounded", pulp.LpMinimize)
    x = problem.add_variable("x")
    y = problem.add_variable("y", cat=pulp.LpBinary)
    problem.setObjective(x + y)
    problem.addConstraint(x + y <= 3)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert (result.status, result.values) == (SolveStatus.UNBOUNDED, {})


@every_backend
def test_no_name_of_the_caller_reaches_a_solver(backend):
    names = ["end", "RHS", "x1", "a'b", "$(touch_x)", "MARKER", "ü" * 300]
    problem = pulp.LpProblem("ENDATA", pulp.LpMaximize)
    picks = [problem.add_variable(name, cat=pulp.LpBinary) for name in names]
    problem.setObjective(pulp.lpSum(picks))
    problem.addConstraint(pulp.lpSum(picks) <= 3, "ROWS")
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert sum(result.values.values()) == 3
    assert set(result.values) == {pick.name for pick in picks}
    assert "touch" not in result.log_tail


@every_backend
def test_no_solver_speaks_on_our_output(backend, capfd):
    solve_model(knapsack(weights=[1], values=[1.0], capacity=1), backend=backend)
    assert capfd.readouterr() == ("", "")


@every_backend
def test_unbounded_only_in_its_continuous_part(backend):
    problem = pulp.LpProblem("unbounded", pulp.LpMaximize)
    x = problem.add_variable("x", 0)
    y = problem.add_variable("y", 0, 5, pulp.LpInteger)
    problem.setObjective(x - y)
    problem.addConstraint(x - 1e6 * y <= 1)
    assert solve_model(problem, backend=backend, limits=QUICK).objective == pytest.approx(5e6 - 4)
    problem.addConstraint(x - 2 * problem.add_variable("z", 0) <= 3)
    y.upBound = None
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert (result.status, result.objective, result.bound) == (SolveStatus.UNBOUNDED, None, None)


@every_backend
@pytest.mark.parametrize(
    ("limit", "status"),
    [(None, SolveStatus.OPTIMAL), (1, SolveStatus.OPTIMAL), (-1, SolveStatus.INFEASIBLE)],
)
def test_a_model_without_variables(backend, limit, status):
    """HiGHS calls every such model optimal, whatever its rows say."""
    problem = pulp.LpProblem("empty", pulp.LpMinimize)
    problem.setObjective(pulp.LpAffineExpression(constant=7))
    if limit is not None:
        nothing = pulp.LpAffineExpression(constant=0.0)
        problem.addConstraint(pulp.LpConstraint(nothing, pulp.LpConstraintLE, "row", limit))
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.status is status
    expected = 7.0 if status is SolveStatus.OPTIMAL else None
    assert (result.objective, result.bound, result.values) == (expected, expected, {})


@every_backend
def test_a_row_without_variables_that_cannot_hold(backend):
    problem = pulp.LpProblem("row", pulp.LpMinimize)
    problem.setObjective(problem.add_variable("x", 0, 1) + 0)
    nothing = pulp.LpAffineExpression(constant=0.0)
    problem.addConstraint(pulp.LpConstraint(nothing, pulp.LpConstraintGE, "row", 1))
    assert solve_model(problem, backend=backend, limits=QUICK).status is SolveStatus.INFEASIBLE


@every_backend
def test_a_solve_that_was_cancelled_before_it_began(backend):
    cancel = threading.Event()
    cancel.set()
    result = solve_model(market_split(with_slack=True), backend=backend, cancel=cancel)
    assert result.status is SolveStatus.CANCELLED
    assert (result.objective, result.bound, result.values) == (None, None, {})


@every_backend
@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize(
    ("death", "status", "says"),
    [
        (signal.SIGSEGV, SolveStatus.FAILED, "left no answer (exit status 139)"),
        (signal.SIGKILL, SolveStatus.MEMORY, "killed from outside"),
        (signal.SIGTERM, SolveStatus.FAILED, "left no answer (exit status 143)"),
    ],
)
def test_a_solver_that_dies_is_a_status_with_a_sentence(backend, death, status, says):
    answers = []
    limits = SolveLimits(wall_seconds=20, threads=1)
    solve = threading.Thread(
        target=lambda: answers.append(
            solve_model(market_split(with_slack=True), backend=backend, limits=limits)
        )
    )
    solve.start()
    wait_until(lambda: solver_in(os.getpid()) is not None)
    os.kill(solver_in(os.getpid()), death)
    solve.join(timeout=10)
    (result,) = answers
    assert result.status is status
    assert says in result.message
    assert (result.objective, result.bound, result.values) == (None, None, {})
