"""What every backend must answer on models whose answer is known by hand."""

import math

import pulp
import pytest

from poet_core.errors import PlanningError, UsageError
from poet_solvers.backends import SolveLimits, SolveStatus, available_backends, solve_model
from tests.solvers.models import knapsack, market_split

QUICK = SolveLimits(wall_seconds=20, threads=1)
backends = pytest.mark.parametrize("backend", available_backends())


def test_cbc_and_highs_are_here_because_the_project_depends_on_them():
    assert available_backends()[:2] == ("cbc", "highs")


@backends
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


@backends
@pytest.mark.parametrize("unit", [1e-9, 1e-3, 1.0, 1e9])
def test_answers_are_in_the_models_own_units(backend, unit):
    """One joule apart or one nanojoule apart: the better of two close plans is found."""
    problem = pulp.LpProblem("units", pulp.LpMinimize)
    picks = [problem.add_variable(f"pick_{i}", cat=pulp.LpBinary) for i in range(3)]
    problem.setObjective(pulp.lpDot([1.000002 * unit, 1.000001 * unit, 1.000003 * unit], picks) + 5)
    problem.addConstraint(pulp.lpSum(picks) == 1)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.values == {"pick_0": 0.0, "pick_1": 1.0, "pick_2": 0.0}
    assert result.objective == pytest.approx(1.000001 * unit + 5, rel=1e-15)


@backends
def test_bytes_by_the_billion_are_told_apart(backend):
    """Rows of 2e9 bytes, and one byte in a million too many: infeasible; none too many: optimal."""
    for spare, status in ((0, SolveStatus.OPTIMAL), (-2000, SolveStatus.INFEASIBLE)):
        problem = pulp.LpProblem("bytes", pulp.LpMinimize)
        keep = [problem.add_variable(f"keep_{i}", cat=pulp.LpBinary) for i in range(3)]
        sizes = [1_234_567_891, 613_000_007, 152_432_117]
        used = problem.add_variable("used", 0, sum(sizes) + spare)
        problem.setObjective(1e-6 * pulp.lpSum(keep))
        problem.addConstraint(pulp.lpDot(sizes, keep) == used)
        problem.addConstraint(pulp.lpSum(keep) >= 3)
        assert solve_model(problem, backend=backend, limits=QUICK).status is status


@backends
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


@backends
def test_a_purely_continuous_model(backend):
    problem = pulp.LpProblem("lp", pulp.LpMaximize)
    x, y = problem.add_variable("x", 0), problem.add_variable("y", 0)
    problem.setObjective(3 * x + 2 * y)
    problem.addConstraint(x + y <= 4)
    problem.addConstraint(x + 3 * y <= 6)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert (result.status, result.objective) == (SolveStatus.OPTIMAL, pytest.approx(12.0))


@backends
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


@backends
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


@backends
def test_unbounded(backend):
    problem = pulp.LpProblem("unbounded", pulp.LpMinimize)
    x = problem.add_variable("x")
    y = problem.add_variable("y", cat=pulp.LpBinary)
    problem.setObjective(x + y)
    problem.addConstraint(x + y <= 3)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert (result.status, result.values) == (SolveStatus.UNBOUNDED, {})


@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_a_time_out_with_an_incumbent_is_feasible_and_never_optimal(backend):
    limits = SolveLimits(wall_seconds=0.5, threads=1)
    result = solve_model(market_split(with_slack=True), backend=backend, limits=limits)
    assert result.status is SolveStatus.FEASIBLE
    assert result.objective is not None
    assert result.bound is not None
    assert 0 <= result.bound < result.objective
    assert result.relative_gap == pytest.approx(1 - result.bound / result.objective)
    assert len(result.values) == 50


@pytest.mark.parametrize("backend", ["cbc", "highs"])
@pytest.mark.parametrize("wall_seconds", [0.001, 0.1, 0.5])
def test_a_time_out_without_one_is_not_found_and_never_infeasible(backend, wall_seconds):
    limits = SolveLimits(wall_seconds=wall_seconds, threads=1)
    result = solve_model(market_split(with_slack=False), backend=backend, limits=limits)
    assert result.status is SolveStatus.NOT_FOUND
    assert (result.objective, result.values) == (None, {})


@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_a_gap_that_was_asked_for_is_optimal_with_an_honest_bound(backend):
    problem = knapsack(
        weights=[31, 41, 59, 26, 53, 58, 97, 93, 23, 84],
        values=[float(value) for value in [30, 44, 55, 29, 50, 61, 95, 90, 27, 80]],
        capacity=300,
    )
    exact = solve_model(problem, backend=backend, limits=QUICK)
    loose = solve_model(problem, backend=backend, limits=SolveLimits(relative_gap=0.2, threads=1))
    assert loose.status is exact.status is SolveStatus.OPTIMAL
    assert exact.objective == exact.bound
    assert loose.objective <= exact.objective <= loose.bound <= loose.objective * 1.25


@pytest.mark.parametrize(
    ("backend", "accepted"),
    [("cbc", "MIPStart provided solution"), ("highs", "MIP start solution is feasible")],
)
def test_a_warm_start_is_used(backend, accepted):
    """Whole or partial: the solver says that it took it, and never ends with a worse point."""
    problem = market_split(with_slack=True)
    known = solve_model(problem, limits=SolveLimits(wall_seconds=1.5, threads=1))
    partial = {name: value for name, value in known.values.items() if name.startswith("buy_")}
    for start in (known.values, partial):
        result = solve_model(
            problem,
            backend=backend,
            limits=SolveLimits(wall_seconds=1.0, threads=1),
            warm_start=start,
        )
        assert accepted in result.log_tail
        assert result.objective <= known.objective + 1e-9


@backends
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


def test_no_solver_speaks_on_our_output(capfd):
    for backend in available_backends():
        solve_model(knapsack(weights=[1], values=[1.0], capacity=1), backend=backend)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["objective", "row", "right-hand side", "bound"])
def test_a_number_that_is_not_finite_is_refused_before_any_solver_starts(wrong, where, monkeypatch):
    def no_solver(*_arguments, **_options):
        pytest.fail("a solver was started")

    monkeypatch.setattr("poet_solvers.backends.solve.run_solver", no_solver)
    problem = pulp.LpProblem("wrong", pulp.LpMinimize)
    lower = wrong if where == "bound" and wrong != -math.inf else 0
    upper = -math.inf if where == "bound" and wrong == -math.inf else 1
    x = problem.add_variable("x", 0, 1)
    x.lowBound, x.upBound = lower, upper
    problem.setObjective(pulp.LpAffineExpression({x: wrong if where == "objective" else 1.0}))
    row = pulp.LpAffineExpression({x: wrong if where == "row" else 1.0})
    problem.addConstraint(pulp.LpConstraint(row, pulp.LpConstraintLE, "row", 1))
    if where == "right-hand side":
        problem.get_constraint_by_name("row").constant = wrong
    with pytest.raises(PlanningError) as caught:
        solve_model(problem)
    assert caught.value.code == "model_refused"


def test_a_doubled_name_an_empty_range_and_a_missing_objective_are_refused():
    doubled = knapsack(weights=[1, 2], values=[1.0, 2.0], capacity=2)
    doubled.variables()[1].name = "take_0"
    empty = pulp.LpProblem("empty", pulp.LpMinimize)
    empty.setObjective(empty.add_variable("x", 2, 1) + 0)
    for problem in (doubled, empty, pulp.LpProblem("nothing", pulp.LpMinimize)):
        with pytest.raises(PlanningError) as caught:
            solve_model(problem)
        assert caught.value.code == "model_refused"


@pytest.mark.parametrize(
    "limits",
    [
        SolveLimits(wall_seconds=0),
        SolveLimits(wall_seconds=math.inf),
        SolveLimits(wall_seconds=math.nan),
        SolveLimits(relative_gap=-0.1),
        SolveLimits(relative_gap=math.nan),
        SolveLimits(threads=0),
        SolveLimits(seed=-1),
        SolveLimits(memory_bytes=0),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(UsageError) as caught:
        solve_model(knapsack(weights=[1], values=[1.0], capacity=1), limits=limits)
    assert caught.value.code == "limits_invalid"


def test_a_warm_start_of_another_model_and_an_unknown_solver_are_refused():
    problem = knapsack(weights=[1], values=[1.0], capacity=1)
    for start in ({"elsewhere": 1.0}, {"take_0": math.nan}):
        with pytest.raises(UsageError) as caught:
            solve_model(problem, warm_start=start)
        assert caught.value.code == "warm_start_invalid"
    with pytest.raises(UsageError) as caught:
        solve_model(problem, backend="cplex")
    assert caught.value.code == "solver_unknown"


def test_a_missing_solver_is_a_sentence_and_not_a_crash(monkeypatch):
    monkeypatch.setattr("poet_solvers.backends.gurobi.module_is_present", lambda _name: False)
    assert "gurobi" not in available_backends()
    with pytest.raises(PlanningError) as caught:
        solve_model(knapsack(weights=[1], values=[1.0], capacity=1), backend="gurobi")
    assert caught.value.code == "solver_missing"
    assert "cbc" in caught.value.hint
