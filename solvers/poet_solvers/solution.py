"""Solution: what `solve` returns. A judged schedule, what is proven about it, and how it was found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from poet_core.graph_document import graph_sha256
from poet_core.plan import Bound, HoldsFor, Plan, PlannedBy, Problem, Schedule
from poet_core.simulate import Judgement
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import Candidate, Desk, Incumbent, ModelBound, base_cost


class Ending(Enum):
    """How a solve ended. Each member's value is its sentence."""

    FITS = "Keep-everything fits in the RAM budget, and no plan can cost less."
    PROVEN = "No schedule that the problem allows costs less, by the bound."
    PROVEN_FOR_ORDER = "No schedule with this plan's order of first runs costs less, by the bound."
    EXHAUSTED = "Every method came to its end; the bound says how much may be left."
    PATIENCE = "Neither plan nor bound got better for as long as was to be waited; the bound says how much may be left."
    TIME = "The time was up; the bound says how much may be left."
    CANCELLED = "The solve was cancelled; this is the best plan until then."
    GOES_ON = "The solve goes on; this is the best plan so far."

    @property
    def sentence(self) -> str:
        return self.value

    @property
    def proven(self) -> bool:
        """Whether nothing cheaper exists among the schedules that the bound speaks of."""
        return self in (Ending.FITS, Ending.PROVEN, Ending.PROVEN_FOR_ORDER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The best schedule found. Costs are joules or seconds, by the problem's objective.

    `base_cost`: every op once. `bound`: proven, and for which schedules. `model_bound`: what the
    last PuLP model's solver claims about its model. `history`: every incumbent in the order found.
    `solver_memory_bytes`: the most RAM that a solver process took, None where none ran.
    """

    problem: Problem
    schedule: Schedule
    judgement: Judgement
    cost: float
    bound: Bound
    found_by: str
    ending: Ending
    history: tuple[Incumbent, ...]
    wall_seconds: float
    seed: int
    note: str = ""
    model_bound: ModelBound | None = None
    solver_memory_bytes: int | None = None

    @property
    def base_cost(self) -> float:
        """What every op once costs: no schedule of any problem with this graph costs less."""
        return base_cost(self.problem)

    @property
    def overhead(self) -> float:
        """(cost - base) / base; 0 where the base is 0."""
        return (self.cost - self.base_cost) / self.base_cost if self.base_cost > 0 else 0.0

    @property
    def gap(self) -> float:
        """(cost - bound) / cost."""
        return max(0.0, (self.cost - self.bound.value) / self.cost) if self.cost > 0 else 0.0

    @property
    def overhead_gap(self) -> float:
        """The same of what comes on top of the base: 1 where the bound says no more than the base."""
        extra = self.cost - self.base_cost
        if extra <= self.base_cost * 1e-12:
            return 0.0
        return min(1.0, max(0.0, (self.cost - self.bound.value) / extra))

    @property
    def status(self) -> str:
        """How it ended and what the bound rests on, in sentences."""
        parts = [self.ending.sentence]
        if self.ending is not Ending.FITS:
            parts.append(f"Bound: {self.bound.by}, {_SPEAKS_OF[self.bound.holds_for]}.")
        if self.note:
            parts.append(self.note)
        return " ".join(parts)

    @property
    def formulation(self) -> str:
        """Who found the schedule, and the model that it was held against."""
        model = self.model_bound
        if model is None or model.formulation == self.found_by:
            return self.found_by
        return f"{self.found_by}, beside {model.formulation}"

    def plan(self, known_sha256: str | None = None) -> Plan:
        """The plan document's value: complete in itself, claims included. `known_sha256`: the graph's,
        where the caller has it (it takes longer than all the rest)."""
        problem, model = self.problem, self.model_bound
        return Plan(
            graph_sha256=known_sha256 or graph_sha256(problem.graph),
            device_name=problem.device_name,
            budget=problem.budget,
            objective=problem.objective,
            allowed=problem.allowed,
            costs=problem.costs,
            schedule=self.schedule,
            claims=self.judgement.claims,
            planned_by=PlannedBy(
                formulation=self.formulation,
                solver="none" if model is None else model.solver,
                status=self.status,
                wall_seconds=self.wall_seconds,
                model_bound=None if model is None else model.value,
            ),
            bound=self.bound,
        )


_SPEAKS_OF = {
    HoldsFor.ANY_ORDER: "of schedules in any order",
    HoldsFor.GIVEN_ORDER: "of schedules in the given order",
    HoldsFor.PLAN_ORDER: "of schedules in this plan's order",
}


def solution_of(
    desk: Desk, limits: SolveLimits, ending: Ending, note: str = ""
) -> tuple[Solution, Candidate]:
    """What the desk has now (it has a schedule), as the answer of a solve that ended so; and the
    schedule as the desk knows it."""
    best, bound = desk.standing()
    assert best is not None
    solution = Solution(
        problem=desk.problem,
        schedule=best.schedule,
        judgement=best.judgement,
        cost=best.cost,
        bound=bound,
        found_by=best.by,
        ending=ending,
        history=desk.history(),
        wall_seconds=desk.elapsed_seconds(),
        seed=limits.seed,
        note=note,
        model_bound=desk.last_model_bound(),
        solver_memory_bytes=desk.solver_memory_bytes(),
    )
    return solution, best
