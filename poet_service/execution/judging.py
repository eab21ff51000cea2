"""The parent's judge: nothing of a child is believed but what is judged here.

Costs are the judge's, bounds the child's claim, at most the cost; a plan that answers another problem
than was asked is no answer, however good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from poet_core.documents import DEFAULT_LIMITS, canonical_json
from poet_core.errors import PlanError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.verify import verify

# The judge adds floats in the order of the schedule, a bound is exact: equal ones differ by this.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPlan:
    """A plan that the judge accepted here. Costs are joules or seconds, by the objective."""

    plan: Plan
    cost: float
    bound: float | None

    @property
    def gap(self) -> float | None:
        """(cost - bound) / cost."""
        return gap_of(self.cost, self.bound)

    @property
    def by(self) -> str:
        """Who found it."""
        return self.plan.planned_by.formulation

    def with_status(self, sentence: str) -> JudgedPlan:
        """The same plan, which says of itself how it came to be the answer."""
        return replace(
            self,
            plan=replace(self.plan, planned_by=replace(self.plan.planned_by, status=sentence)),
        )

    def document(self) -> bytes:
        """The canonical `poet.plan/1`."""
        return canonical_json(plan_to_document(self.plan))


def gap_of(cost: float, bound: float | None) -> float | None:
    """(cost - bound) / cost, 0 at least."""
    if bound is None:
        return None
    return max(0.0, (cost - bound) / cost) if cost > 0 else 0.0


class ParentJudge:
    """Judges plans for one problem."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sha256: str | None = None

    def judged(self, document: Any) -> JudgedPlan:
        """The plan of a JSON value. Raises DocumentError and PlanError."""
        plan, problem = plan_from_document(document, DEFAULT_LIMITS), self._problem
        if self._sha256 is None:
            self._sha256 = graph_sha256(problem.graph)
        answered = (plan.budget, plan.costs, plan.allowed, plan.objective, plan.device_name)
        if answered != (
            problem.budget,
            problem.costs,
            problem.allowed,
            problem.objective,
            problem.device_name,
        ):
            raise PlanError("The planner answered another problem.", code="plan_for_other_problem")
        verify(problem.graph, plan, self._sha256)
        cost = plan.objective_value
        bound = None if plan.bound is None else plan.bound.value
        if bound is not None and bound > cost * (1 + _ROUNDING):
            raise PlanError(
                f"The plan costs {cost} and claims that none costs less than {bound}.",
                code="bound_above_cost",
            )
        return JudgedPlan(plan=plan, cost=cost, bound=None if bound is None else min(bound, cost))
