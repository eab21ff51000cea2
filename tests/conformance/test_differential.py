"""CBC = HiGHS = the portfolio = brute force on random problems: hundreds here, thousands when slow.

A contradiction raises inside of `compare`; the counts show that the problems are no trivial ones,
and that what is found without a proof is nearly always the optimum too.
"""

from __future__ import annotations

import re

import pytest

from poet_core.plan import Allowed
from tests.oracles.differential import (
    Disagreement,
    compare,
    compare_many,
    compare_solvers,
    highs_in_this_process,
)
from tests.oracles.planner_checks import ask_oracle
from tests.solvers.milp_cases import unit_chain

slow = (pytest.mark.slow, pytest.mark.timeout(3600))


@pytest.mark.parametrize("problems", [200, pytest.param(4_000, marks=slow)])
def test_the_portfolio_is_brute_force_in_the_given_order(problems: int) -> None:
    with highs_in_this_process():
        counts = compare_many(problems, problems, reorder=False)
    assert counts["equal"] > 0.3 * problems
    assert counts["above"] + counts["missed"] <= 0.01 * problems


@pytest.mark.parametrize("problems", [200, pytest.param(4_000, marks=slow)])
def test_the_portfolio_is_mostly_brute_force_in_any_order(problems: int) -> None:
    with highs_in_this_process():
        counts = compare_many(problems + 1, problems, reorder=True)
    assert counts["equal"] > 0.3 * problems
    assert counts["above"] + counts["missed"] <= 0.05 * problems


@pytest.mark.parametrize("problems", [20, pytest.param(500, marks=slow)])
@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_the_portfolio_with_solvers_in_processes(backend: str, problems: int) -> None:
    counts = compare_many(problems + 2, problems, reorder=False, backend=backend)
    assert counts["equal"] > 0.3 * problems
    assert counts["above"] + counts["missed"] <= 0.02 * problems


@pytest.mark.parametrize("problems", [30, pytest.param(1_000, marks=slow)])
def test_cbc_and_highs_find_the_same_of_poets_model(problems: int) -> None:
    counts = compare_solvers(problems + 3, problems)
    assert counts["equal"] > 0.7 * problems
    assert counts["above"] + counts["outside of the model"] <= 0.1 * problems


@pytest.mark.parametrize("wrong", ["a cost below", "a bound above"])
def test_what_contradicts_brute_force_is_noticed(wrong: str) -> None:
    """The comparison itself: an oracle that is off by one is contradicted by the portfolio."""
    problem = unit_chain(3, 3, 5.0, Allowed(reorder=False))
    oracle = ask_oracle(problem)
    assert compare(problem, oracle, "highs") == "equal"
    off = {"a cost below": 1.0, "a bound above": -1.0}[wrong]

    def shifted(best):
        return type(best)(
            energy_joules=best.energy_joules + off, schedule=best.schedule, states=best.states
        )

    oracle = type(oracle)(shifted(oracle.given_order), shifted(oracle.any_order))
    says = {"a cost below": "is below 11.0", "a bound above": "is above 9.0"}[wrong]
    with pytest.raises(Disagreement, match=re.escape(says)):
        compare(problem, oracle, "highs")
