"""Plan: the instruction list, the problem that it answers, and what it claims.

A plan is complete in itself: it names its graph by hash and carries budget and costs by value, so
the judge needs nothing but the graph. Claims (peak, seconds, joules) are the judge's own figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from poet_core.costs import Costs
from poet_core.graph import TrainingGraph


class Do(StrEnum):
    """What an instruction does."""

    COMPUTE = "compute"
    PAGE_OUT = "page_out"
    PAGE_IN = "page_in"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a plan; `target` is an op id for compute and a storage id otherwise."""

    do: Do
    target: int


class Objective(StrEnum):
    """What a planner minimises."""

    ENERGY = "energy"
    TIME = "time"


class HoldsFor(StrEnum):
    """The schedules that a lower bound speaks about: those whose first runs come in document order,
    in the order of the plan that carries the bound, or in any order."""

    GIVEN_ORDER = "given_order"
    PLAN_ORDER = "plan_order"
    ANY_ORDER = "any_order"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Limits of a step. None means unlimited.

    `ram_bytes` counts `reserved_bytes` (interpreter, I/O buffers) and each storage rounded up to
    `alignment_bytes`. `flash_write_bytes` caps what one step writes: flash wears out.
    """

    ram_bytes: int
    reserved_bytes: int = 0
    alignment_bytes: int = 1
    overlap: bool = False
    flash_bytes: int | None = None
    flash_write_bytes: int | None = None
    step_seconds: float | None = None
    energy_joules: float | None = None

    def rounded(self, size_bytes: int) -> int:
        """`size_bytes` rounded up to the alignment."""
        return -(-size_bytes // self.alignment_bytes) * self.alignment_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a planner may do beside keeping: page, rematerialize, reorder first runs."""

    page: bool = True
    rematerialize: bool = True
    reorder: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Everything that a planner is asked."""

    graph: TrainingGraph
    costs: Costs
    budget: Budget
    objective: Objective = Objective.ENERGY
    allowed: Allowed = field(default_factory=Allowed)
    device_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A plan without its claims: where persistent storages begin, and the instructions."""

    start_ram: tuple[int, ...]
    start_flash: tuple[int, ...]
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a plan says of itself; the judge computes the same figures or refuses the plan."""

    peak_bytes: int
    step_seconds: float
    energy_joules: float
    flash_peak_bytes: int
    flash_bytes_written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A proven lower bound on the objective, for which schedules, and who proved it."""

    value: float
    holds_for: HoldsFor
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBy:
    """Who found the plan: formulation, solver, its status sentence and its wall seconds.

    `model_bound`: what the solver claims that no solution of the PuLP model can beat, in the
    objective's unit. It need not bound the problem itself (`Plan.bound` does); None: no model ran.
    """

    formulation: str
    solver: str
    status: str
    wall_seconds: float
    model_bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A schedule with its problem and its claims (document `poet.plan/1`)."""

    graph_sha256: str
    device_name: str
    budget: Budget
    objective: Objective
    allowed: Allowed
    costs: Costs
    schedule: Schedule
    claims: Claims
    planned_by: PlannedBy
    bound: Bound | None = None

    @property
    def objective_value(self) -> float:
        """What the plan costs: joules or seconds, by its objective."""
        if self.objective is Objective.ENERGY:
            return self.claims.energy_joules
        return self.claims.step_seconds

    @property
    def gap(self) -> float | None:
        """(cost - bound) / cost, at least 0; None where nothing is proven."""
        if self.bound is None or self.objective_value <= 0:
            return None
        return max(0.0, (self.objective_value - self.bound.value) / self.objective_value)
