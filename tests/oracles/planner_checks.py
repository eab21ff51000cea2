"""The planner against the exact oracle, one problem at a time.

oracle(any order) <= oracle(given order) <= plan          the planner keeps the given order
a claimed bound <= the oracle for the schedules that it speaks of
CBC and HiGHS find the same energy
a refusal that claims a proof: the oracle finds nothing either
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from poet_core.errors import BudgetError, PlanningError, PoetError
from poet_core.plan import Allowed, Budget, Do, HoldsFor, Plan, Problem
from poet_core.verify import verify
from poet_solvers import plan
from tests.oracles.generate import random_problem
from tests.oracles.shortest_path import Best, TooLarge, least_energy

Backend = Literal["cbc", "highs"]

MODES = {
    "both": Allowed(reorder=False),
    "page only": Allowed(rematerialize=False, reorder=False),
    "rematerialize only": Allowed(page=False, reorder=False),
}
ABSOLUTE, RELATIVE = 1e-7, 1e-6  # the solvers' own tolerances on joules of this size


@dataclass(frozen=True, slots=True)
class Oracle:
    """The exact answers to a problem."""

    given_order: Best | None
    any_order: Best | None


def ask_oracle(problem: Problem, most_states: int = 1_500) -> Oracle:
    """Raises TooLarge where the search is given up."""

    def ask(given_order: bool) -> Best | None:
        return least_energy(
            problem.graph, problem.costs, problem.budget, given_order=given_order,
            page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
            most_states=most_states,
        )  # fmt: skip

    return Oracle(ask(True), ask(False))


def planned(problem: Problem, backend: Backend, oracle: Oracle) -> Plan | None:
    """The plan, checked against the oracle; None where the planner found none."""
    answer: Plan | PoetError
    try:
        answer = plan(problem, backend=backend)
    except (BudgetError, PlanningError) as error:
        answer = error
    if isinstance(answer, PoetError):
        proven = isinstance(answer, BudgetError)
        assert proven or answer.code == "none_in_this_model", answer
        assert not proven or oracle.given_order is None, f"{answer} is no proof"
        return None
    verify(problem.graph, answer)
    assert oracle.given_order is not None
    assert oracle.any_order is not None
    assert runs_in_document_order(answer)
    given, any_order = oracle.given_order.energy_joules, oracle.any_order.energy_joules
    assert any_order <= given <= answer.claims.energy_joules
    if answer.bound is not None:
        speaks_of = given if answer.bound.holds_for is HoldsFor.GIVEN_ORDER else any_order
        assert answer.bound.value <= speaks_of * (1 + RELATIVE) + ABSOLUTE, answer.bound
    return answer


def runs_in_document_order(answer: Plan) -> bool:
    """Whether the first runs of the ops follow the document."""
    runs = [one.target for one in answer.schedule.instructions if one.do is Do.COMPUTE]
    firsts = list(dict.fromkeys(runs))
    return firsts == sorted(firsts)


def same_energy(one: Plan, other: Plan) -> bool:
    """Equal within the solvers' tolerances."""
    first, second = one.claims.energy_joules, other.claims.energy_joules
    return abs(first - second) <= ABSOLUTE + RELATIVE * max(first, second)


def check_problems(seed: int, problems: int, backends: tuple[Backend, ...]) -> Counter[str]:
    """Check `problems` random problems in every mode in turn; what came out, counted."""
    rng = Random(seed)
    counts: Counter[str] = Counter()
    modes = list(MODES)
    for number in range(problems):
        problem = random_problem(rng, allowed=MODES[modes[number % len(modes)]])
        try:
            oracle = ask_oracle(problem)
        except TooLarge:
            counts["too large for the oracle"] += 1
            continue
        plans = [planned(problem, backend, oracle) for backend in backends]
        counts["solves"] += len(plans)
        if None in plans:
            assert all(answer is None for answer in plans)
            counts["no plan" if oracle.given_order is None else "none in this model"] += 1
            continue
        assert all(same_energy(plans[0], answer) for answer in plans[1:] if plans[0] and answer), (
            f"{backends} differ on problem {number} of seed {seed}: "
            f"{[answer.claims.energy_joules for answer in plans if answer]}"
        )
        counts[_outcome(plans[0], oracle)] += 1
    return counts


def _outcome(answer: Plan | None, oracle: Oracle) -> str:
    assert answer is not None
    assert oracle.given_order is not None
    if answer.planned_by.formulation == "keep-everything":
        return "keep-everything fits"
    exact = oracle.given_order.energy_joules
    return "equal" if answer.claims.energy_joules <= exact + ABSOLUTE else "above"


def with_ram(problem: Problem, ram_bytes: int) -> Problem:
    """The same problem under another RAM budget."""
    budget: Budget = replace(problem.budget, ram_bytes=ram_bytes)
    return replace(problem, budget=budget)
