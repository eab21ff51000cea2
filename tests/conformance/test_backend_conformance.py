"""All solvers answer alike, and all answer as trying every point does."""

import itertools
import math
import random

import pulp
import pytest

from poet_solvers.backends import SolveStatus, solve_model
from poet_solvers.backends.model_file import read_model
from poet_solvers.backends.scaling import scale
from tests.conformance.backends import QUICK, every_backend


@every_backend
@pytest.mark.parametrize("seed", range(20))
def test_a_solver_finds_what_trying_every_point_finds(seed, backend):
    problem = _random_problem(random.Random(seed))
    expected = _best_by_trial(problem)
    result = solve_model(problem, backend=backend, limits=QUICK)
    if expected is None:
        assert result.status is SolveStatus.INFEASIBLE
    else:
        assert result.status is SolveStatus.OPTIMAL
        assert result.objective == pytest.approx(expected, rel=1e-9)
        assert result.bound == result.objective
        assert set(result.values.values()) <= {0.0, 1.0}


@pytest.mark.parametrize("seed", range(30))
def test_scaling_loses_no_bit(seed):
    """There and back gives the same numbers, and every scaled number is near one."""
    draw = random.Random(seed)
    problem = _random_problem(draw, continuous=2)
    model = read_model(problem)
    scaled = scale(model)
    point = [draw.random() if not column.integer else 1.0 for column in model.columns]
    there = scaled.point_forward(dict(enumerate(point)))
    assert scaled.point_back(there) == point
    inner = scaled.model.objective_of([there[index] for index in range(len(point))])
    assert scaled.objective_back(inner) == pytest.approx(model.objective_of(point), rel=1e-12)
    assert not scaled.model.maximise
    largest_cost = max(abs(weight) for _, weight in scaled.model.objective)
    assert 2**13 <= largest_cost < 2**14
    for row in scaled.model.rows:
        assert 0.5 <= max(abs(weight) for _, weight in row.terms) < 1
    for factor in (*scaled.column_factors, abs(scaled.objective_factor)):
        assert math.frexp(factor)[0] == 0.5
    for column, factor in zip(model.columns, scaled.column_factors, strict=True):
        assert factor == 1.0 or not column.integer


def _random_problem(draw: random.Random, *, continuous: int = 0) -> pulp.LpProblem:
    """Up to eight binaries; costs from nanojoules to kilojoules, rows of ones or of many bytes."""
    problem = pulp.LpProblem("random", draw.choice([pulp.LpMinimize, pulp.LpMaximize]))
    picks = [
        problem.add_variable(f"pick_{i}", cat=pulp.LpBinary) for i in range(draw.randint(4, 8))
    ]
    picks += [problem.add_variable(f"part_{i}", -1e6 * i, 1e7) for i in range(continuous)]
    unit = 10.0 ** draw.randint(-9, 3)
    problem.setObjective(
        pulp.LpAffineExpression(
            [(pick, unit * draw.randint(-64, 64) or unit) for pick in picks], constant=unit
        )
    )
    for _ in range(draw.randint(1, 4)):
        size = draw.choice([1, 1000, 10**6, 10**9])
        weights = [draw.randint(1, 9) * size for _ in picks]
        limit = draw.randint(1, sum(weights) // size) * size
        row = pulp.lpDot(weights, picks)
        problem.addConstraint(draw.choice([row <= limit, row >= limit]))
    if draw.random() < 0.3:
        problem.addConstraint(pulp.lpSum(picks) == draw.randint(0, len(picks)))
    return problem


def _best_by_trial(problem: pulp.LpProblem) -> float | None:
    variables = problem.variables()
    best = None
    for point in itertools.product((0, 1), repeat=len(variables)):
        for variable, value in zip(variables, point, strict=True):
            variable.varValue = value
        if all(row.valid() for row in problem.constraints()):
            found = problem.objective.value()
            better = best is None or (found - best) * problem.sense < 0
            best = found if better else best
    return best
