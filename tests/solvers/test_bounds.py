"""Lower bounds: hand-made cases, exact arithmetic, prices, and what a plan says of them."""

from dataclasses import replace
from fractions import Fraction
from random import Random

import pulp
import pytest

from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, HoldsFor, Objective, Problem
from poet_solvers import plan
from poet_solvers.backends import SolveLimits, solve_model
from poet_solvers.bounds.checkpoints import choose_checkpoints, over_budget_bytes
from poet_solvers.bounds.prices import least_prices
from poet_solvers.bounds.prove import lp_bound, milp_bound
from poet_solvers.bounds.relaxation import relax
from poet_solvers.bounds.rows import ONE, Rows, round_down
from poet_solvers.values import value_table
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem


def updated_weight(ram_bytes: int) -> Problem:
    """w is read, sits out one op that needs all RAM but one byte, and is updated in place."""
    sizes = [("w", 2, Role.PARAMETER), ("x", 1, Role.ACTIVATION), ("y", 3, Role.ACTIVATION)]
    storages = tuple(
        Storage(id=i, name=name, size_bytes=size, role=role, persistent=role is Role.PARAMETER)
        for i, (name, size, role) in enumerate(sizes)
    )
    ops = (
        Op(id=0, name="use", kind="t", phase=Phase.FORWARD, reads=(0,), writes=(1,)),
        Op(id=1, name="big", kind="t", phase=Phase.FORWARD, reads=(1,), writes=(2,)),
        Op(id=2, name="update", kind="t", phase=Phase.UPDATE, reads=(1,), mutates=(0,)),
    )
    base = unit_chain(1, 1, 0.5, Allowed())
    costs = replace(base.costs, page_out_joules=(0.25,) * 3)
    return Problem(
        graph=TrainingGraph(storages=storages, ops=ops), costs=costs,
        budget=Budget(ram_bytes=ram_bytes),
    )  # fmt: skip


def test_a_weight_that_must_leave_is_saved_or_begins_in_flash() -> None:
    # At op 1 only x and y fit. w comes back for op 2 (0.5 J) from a copy: paged out as it is, or
    # in flash from the start and then paged out when updated, 0.25 J either way.
    problem = updated_weight(5)
    bound = milp_bound(relax(problem, chains=True))
    assert bound is not None
    assert bound.value == pytest.approx(3 + 0.5 + 0.25)
    assert bound.holds_for is HoldsFor.GIVEN_ORDER
    assert plan(problem).objective_value == pytest.approx(3.75)
    assert relax(updated_weight(6), chains=True).segments.checkpoints == ()


def test_a_chain_of_second_runs_needs_its_inputs() -> None:
    # POET's unit chain without paging: the cover lets every lost value cost one run, with chains
    # the runs that feed it count too.
    problem = unit_chain(4, 4, 1.0, Allowed(page=False))
    with_chains = milp_bound(relax(problem, chains=True))
    cover = milp_bound(relax(problem, chains=False))
    answer = plan(problem)
    assert with_chains is not None
    assert cover is not None
    assert cover.value <= with_chains.value + 1e-9
    assert with_chains.value == pytest.approx(answer.objective_value)
    assert answer.gap == pytest.approx(0, abs=1e-9)


def test_the_lp_bound_of_a_training_step_is_nearly_the_milps() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.5, "mkr1000")
    base = problem.costs.base_joules
    relaxation = relax(problem, chains=True, most_checkpoints=8)
    by_lp = lp_bound(relaxation)
    by_milp = milp_bound(relaxation, limits=SolveLimits(wall_seconds=20))
    assert by_lp is not None
    assert by_milp is not None
    assert base < by_lp.value <= by_milp.value * (1 + 1e-9)
    assert by_lp.value - base > 0.5 * (by_milp.value - base)


def test_multipliers_of_any_size_and_sign_prove_no_more_than_the_optimum() -> None:
    rows = Rows()
    first, second = rows.column(Fraction(3)), rows.column(Fraction(1, 3))
    rows.at_most(ONE, first + second)
    rows.weighted([(5, second)], 2)
    # min 3 a + b / 3, a + b >= 1, b <= 2/5: a = 3/5, b = 2/5.
    optimum = Fraction(9, 5) + Fraction(2, 15)
    assert rows.bound([Fraction(3), Fraction(8, 15)]) == optimum
    rng = Random(0)
    for _ in range(300):
        some = [Fraction(rng.randint(-20, 200), rng.randint(1, 20)) for _ in rows.rows]
        assert rows.bound(some) <= optimum
    wild = {"c0": float("nan"), "c1": -float("inf")}
    assert rows.multipliers(wild) == [0, 0]
    assert rows.multipliers({"c0": -3.0, "c1": 1.0}) == [3, 0]


def test_a_row_that_cannot_be_kept_is_a_contradiction() -> None:
    rows = Rows()
    column = rows.column()
    rows.weighted([(1, column)], 1)
    assert rows.rows == []
    assert not rows.contradiction
    rows.weighted([(2, ONE), (1, column)], 1)
    assert rows.contradiction


def test_duals_come_back_in_the_models_own_units() -> None:
    model = pulp.LpProblem("duals", pulp.LpMinimize)
    first, second = model.add_variable("a", 0, 1000), model.add_variable("b", 0, 1000)
    model.setObjective(3.0e-7 * first + 8.0e-7 * second)
    model.addConstraint(4096 * first + 4096 * second >= 8192, "need")
    model.addConstraint(first <= 1, "most")
    result = solve_model(model, backend="highs")
    assert result.duals["need"] == pytest.approx(8e-7 / 4096)
    assert result.duals["most"] == pytest.approx(-5e-7)
    assert solve_model(model, backend="cbc").duals == {}


def test_round_down_never_rounds_up() -> None:
    for value in (Fraction(1, 3), Fraction(2, 3), Fraction(10**17 + 1), Fraction(1, 10)):
        assert Fraction(round_down(value)) <= value
        assert round_down(value) == pytest.approx(float(value), rel=1e-15)


def test_checkpoints_are_the_worst_positions_over_the_budget() -> None:
    assert choose_checkpoints([0, 3, -1, 5, 2, 9, 1], 256) == (1, 3, 4, 5, 6)
    assert choose_checkpoints([0, 3, -1, 5, 2, 9, 1], 2) == (3, 5)
    assert choose_checkpoints([-1, 0], 2) == ()
    problem = updated_weight(5)
    assert over_budget_bytes(problem, value_table(problem.graph, problem.budget)) == [-2, 1, -2]


def test_hidden_transfers_cost_no_time_and_their_own_joules_only() -> None:
    problem = updated_weight(5)
    costs = replace(problem.costs, page_in_seconds=(2.0,) * 3, idle_watts=0.5)
    serial = least_prices(replace(problem, costs=costs))
    assert serial.page_in[0] == Fraction(3, 2)
    assert serial.run[0] == Fraction(3, 2)
    hidden = replace(problem, costs=costs, budget=replace(problem.budget, overlap=True))
    assert least_prices(hidden).page_in[0] == Fraction(1, 2)
    assert least_prices(hidden).run[0] == Fraction(3, 2)
    timed = replace(hidden, objective=Objective.TIME)
    assert least_prices(timed).page_in[0] == 0
    assert least_prices(timed).run[0] == 1
