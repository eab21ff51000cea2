"""The planner against the exact oracle, one problem at a time.

oracle(any order) <= oracle(given order) <= plan          the planner keeps the given order
a claimed bound <= the oracle for the schedules that it speaks of
a refusal that claims a proof: the oracle finds nothing either
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from poet_core.errors import BudgetError, PlanningError, PoetError
from poet_core.plan import Allowed, Budget, Do, HoldsFor, Plan, Problem
from poet_core.verify import verify
from poet_solvers import plan
from poet_solvers.backends import SolveLimits
from tests.oracles.shortest_path import Best, least_energy

Backend = Literal["cbc", "highs"]

MODES = {
    "both": Allowed(reorder=False),
    "page only": Allowed(rematerialize=False, reorder=False),
    "rematerialize only": Allowed(page=False, reorder=False),
}
# Enough for graphs of this size, and the same answer every time.
MOVES = SolveLimits(wall_seconds=60, threads=1, moves=20_000)
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
        answer = plan(problem, backend=backend, limits=MOVES)
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


def with_ram(problem: Problem, ram_bytes: int) -> Problem:
    """The same problem under another RAM budget."""
    budget: Budget = replace(problem.budget, ram_bytes=ram_bytes)
    return replace(problem, budget=budget)
