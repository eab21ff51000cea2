"""What `solve_model` refuses before any solver starts, and which solvers there are."""

import math

import pulp
import pytest

from poet_core.errors import PlanningError, UsageError
from poet_solvers.backends import SolveLimits, available_backends, solve_model
from tests.solvers.models import knapsack


def test_cbc_and_highs_are_here_because_the_project_depends_on_them():
    assert available_backends()[:2] == ("cbc", "highs")


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
