"""poet_solvers.plan on the committed cases, with both solvers and in every mode."""

from itertools import pairwise
from random import Random

import pytest

from poet_core.errors import BudgetError, PlanningError
from poet_solvers import plan
from tests.oracles.cases import OracleCase, read_cases
from tests.oracles.differential import highs_in_this_process
from tests.oracles.generate import Shape, random_problem
from tests.oracles.planner_checks import (
    ABSOLUTE,
    MODES,
    MOVES,
    Backend,
    ask_oracle,
    planned,
    with_ram,
)

CASES = read_cases()


@pytest.mark.parametrize("number", range(len(CASES)))
def test_the_planner_meets_the_oracle_on_the_committed_cases(number: int) -> None:
    case = CASES[number]
    backend: Backend = "highs" if number % 4 == 0 else "cbc"
    answer = planned(case.problem, backend, ask_oracle(case.problem, most_states=10_000))
    assert answer is not None
    assert answer.claims.energy_joules == pytest.approx(case.given_order_joules, abs=ABSOLUTE)


def test_the_committed_energies_are_the_oracles() -> None:
    for case in CASES:
        oracle = ask_oracle(case.problem, most_states=10_000)
        assert oracle.given_order is not None
        assert oracle.any_order is not None
        assert oracle.given_order.energy_joules == case.given_order_joules
        assert oracle.any_order.energy_joules == case.any_order_joules


def test_the_committed_cases_cover_every_mode_and_reordering() -> None:
    modes = [case.mode for case in CASES]
    assert {mode: modes.count(mode) for mode in MODES} == {
        "both": 24, "page only": 8, "rematerialize only": 8,
    }  # fmt: skip
    assert all(costs_more_than_everything_kept(case) for case in CASES)
    assert any(case.any_order_joules < case.given_order_joules for case in CASES)


def costs_more_than_everything_kept(case: OracleCase) -> bool:
    return case.given_order_joules > case.problem.costs.base_joules


def test_energy_never_falls_when_the_budget_shrinks() -> None:
    """Where the plan is proven optimal for its order, under three budgets each."""
    rng = Random(3)
    compared = 0
    for _ in range(25):
        problem = random_problem(rng, Shape(most_ops=5, most_persistent=2))
        proven: list[float] = []
        for less in range(3):
            smaller = with_ram(problem, max(1, problem.budget.ram_bytes - 2 * less))
            try:
                with highs_in_this_process():
                    answer = plan(smaller, backend="highs", limits=MOVES)
            except (BudgetError, PlanningError):
                break
            if answer.gap is not None and answer.gap < 1e-9:
                proven.append(answer.claims.energy_joules)
        assert all(a <= b + ABSOLUTE for a, b in pairwise(proven))
        compared += len(proven) > 1
    assert compared > 3
