"""Conformance: numbers from 1e-12 to 1e15, whole numbers, and which digits may be believed."""

import pulp
import pytest

from poet_solvers.backends import SolveStatus, solve_model
from tests.conformance.backends import QUICK, every_backend


@every_backend
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


@every_backend
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


@every_backend
@pytest.mark.parametrize("unit", [1e-200, 1e-12, 1e15, 1e200])
def test_rows_and_costs_of_any_size(backend, unit):
    problem = pulp.LpProblem("unit", pulp.LpMinimize)
    picks = [problem.add_variable(f"pick_{i}", cat=pulp.LpBinary) for i in range(4)]
    problem.setObjective(pulp.lpDot([3 * unit, 2 * unit, 5 * unit, 7 * unit], picks))
    problem.addConstraint(pulp.lpDot([3 * unit, 4 * unit, 6 * unit, 8 * unit], picks) >= 9 * unit)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.status is SolveStatus.OPTIMAL
    assert result.objective == pytest.approx(7 * unit, rel=1e-12)


@every_backend
def test_tiny_and_huge_numbers_in_one_model(backend):
    """1e15 bytes against 1e-12 joules: what cannot be had without `keep` is not had without it."""
    problem = pulp.LpProblem("spread", pulp.LpMinimize)
    moved = problem.add_variable("moved", 0, 1e15)
    keep = problem.add_variable("keep", cat=pulp.LpBinary)
    part = problem.add_variable("part", 0, 1)
    problem.setObjective(1e-12 * moved + 2e-12 * keep + part)
    problem.addConstraint(moved + 1e15 * keep >= 1e15)
    problem.addConstraint(1e-12 * part + 1e-12 * keep >= 1e-12)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.status is SolveStatus.OPTIMAL
    assert result.values == pytest.approx({"moved": 0, "keep": 1, "part": 0}, abs=1e-9)
    assert result.objective == pytest.approx(2e-12)


@every_backend
def test_one_unit_in_a_thousand_billion_decides(backend):
    """Two costs that agree in nine digits and differ by three units: far above the gap of 1e-9."""
    problem = pulp.LpProblem("close", pulp.LpMinimize)
    picks = [problem.add_variable(f"pick_{i}", cat=pulp.LpBinary) for i in range(2)]
    problem.setObjective(pulp.lpDot([1_000_000_300_000.0, 1_000_000_000_000.0], picks))
    problem.addConstraint(pulp.lpSum(picks) == 1)
    assert solve_model(problem, backend=backend, limits=QUICK).objective == 1e12


@every_backend
def test_integers_come_back_whole(backend):
    problem = pulp.LpProblem("whole", pulp.LpMinimize)
    steps = problem.add_variable("steps", 0, 10**7, pulp.LpInteger)
    rest = problem.add_variable("rest", 0, 2, pulp.LpInteger)
    problem.setObjective(steps + rest)
    problem.addConstraint(3 * steps + rest == 10**7)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.values == {"steps": 3_333_333.0, "rest": 1.0}


@every_backend
@pytest.mark.parametrize(("least", "most", "found"), [(0.4, 2.6, 1.0), (0.5, 0.6, None), (1, 1, 1)])
def test_an_integers_bounds_need_not_be_whole(backend, least, most, found):
    """HiGHS answers 0.4 .. 2.6 with a point outside of the model."""
    problem = pulp.LpProblem("bounds", pulp.LpMinimize)
    count = problem.add_variable("count", least, most, pulp.LpInteger)
    problem.setObjective(count + 0)
    problem.addConstraint(count <= 2.2)
    result = solve_model(problem, backend=backend, limits=QUICK)
    assert result.objective == found
    assert result.status is (SolveStatus.INFEASIBLE if found is None else SolveStatus.OPTIMAL)


@every_backend
def test_digits_that_a_solver_does_not_write_are_not_made_up(backend):
    """CBC prints eight digits: 333333334 comes as 333333330, which misses the row by ten."""
    problem = pulp.LpProblem("digits", pulp.LpMinimize)
    count = problem.add_variable("count", 0, 10**9, pulp.LpInteger)
    problem.setObjective(count + 0)
    problem.addConstraint(3 * count >= 10**9)
    result = solve_model(problem, backend=backend, limits=QUICK)
    if backend == "cbc":
        assert result.status is SolveStatus.FAILED
        assert "more digits" in result.message
    else:
        assert result.objective == 333_333_334.0
