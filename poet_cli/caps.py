"""From a cap of the kernel's to a program and a plan that keep it.

    cap -> what the worker itself takes -> the plan's budget -> which ops are split -> the plan

Invariant: a cap that is too small is refused before anything is trained, with the floor, the op that
sets it and the least cap that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poet_core.errors import BudgetError, PlanningError, ReplayError
from poet_core.units import format_bytes

if TYPE_CHECKING:
    from poet_core.bounds import RamFloor
    from poet_core.plan import Plan
    from poet_runtime.program import Program

# What a worker took on the machine where this was written (poet_runtime.isolated.budget measures
# it): taken where nothing can be measured, and said to be.
_USUAL_BASE_BYTES, _USUAL_OP_BYTES = 150 << 20, 16_000

Tracer = Callable[..., "Program"]
"""trace(measured: bool, split_above_bytes: int | None) -> the step's program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedPlan:
    """A program with its plan for a cap. `worker_bytes`: what the worker takes beside the plan, as
    calibrated here; `calibrated`: whether it could be."""

    program: Program
    plan: Plan
    cap_bytes: int
    budget_bytes: int
    worker_bytes: int
    calibrated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Worker:
    """What a worker takes, as measured here or as is usual."""

    calibrated: bool

    def budget(self, cap_bytes: int, ops: int) -> int:
        """The plan's budget; 0 where the cap is below the worker alone."""
        from poet_runtime.isolated import budget as isolated_budget

        if self.calibrated:
            try:
                return isolated_budget.plan_budget_bytes(cap_bytes, ops=ops)
            except BudgetError:
                return 0
        taken = _USUAL_BASE_BYTES + _USUAL_OP_BYTES * ops + isolated_budget.ALLOWANCE_BYTES
        return max(0, int((cap_bytes - taken) / (1 + isolated_budget.ALLOWANCE_OF_PLAN)))

    def least_cap(self, plan_bytes: int, ops: int) -> int:
        """The least cap that has room for a plan."""
        from poet_runtime.isolated import budget as isolated_budget

        if self.calibrated:
            return isolated_budget.least_cap_bytes(plan_bytes, ops=ops)
        low, high = 0, 1 << 50
        while high - low > 1 << 20:
            middle = (low + high) // 2
            low, high = (low, middle) if self.budget(middle, ops) >= plan_bytes else (middle, high)
        return high


def plan_for_cap(
    trace: Tracer,
    plan: Callable[[Program, int], Plan],
    cap_bytes: int,
    *,
    say: Callable[[str], None],
    enforced: bool = True,
) -> CappedPlan:
    """Traces and plans a step for a cap. `plan(program, budget_bytes)` makes a plan; `enforced`:
    False where no memory group can be made, so that nothing can be measured either.

    Raises BudgetError (`cap_too_small`) and what tracer and planner raise.
    """
    worker = _Worker(calibrated=enforced)
    say("Tracing, to see how large the step is")
    rough = trace(measured=False, split_above_bytes=None)
    say("Measuring what a worker takes beside its plan" if enforced else "Preparing")
    budget = worker.budget(cap_bytes, len(rough.graph.ops))
    above = _split_above(rough, budget)
    say("Tracing, and timing every op" + (", large ones in parts" if above else ""))
    program = trace(measured=True, split_above_bytes=above)
    ops = len(program.graph.ops)
    budget = worker.budget(cap_bytes, ops)
    floor = _floor(program)
    if budget < floor.floor_bytes:
        raise _too_small(cap_bytes, budget, floor, worker.least_cap(floor.floor_bytes, ops))
    say(f"Planning for {format_bytes(budget)}")
    try:
        found = plan(program, budget)
    except PlanningError as error:
        raise PlanningError(
            f"{error.message} The cap of {format_bytes(cap_bytes)} leaves {format_bytes(budget)} "
            f"for the plan; the floor is {format_bytes(floor.floor_bytes)}, set by {floor.set_by}.",
            code=error.code,
            hint="Raise --cap, or give the solver more --seconds.",
            details=error.details,
        ) from error
    return CappedPlan(
        program=program,
        plan=found,
        cap_bytes=cap_bytes,
        budget_bytes=budget,
        worker_bytes=cap_bytes - budget,
        calibrated=enforced,
    )


def check_plan_fits(program: Program, plan: Plan, cap_bytes: int) -> None:
    """Raises BudgetError (`cap_too_small`) where an existing plan does not fit a cap."""
    from poet_runtime.isolated.budget import least_cap_bytes

    peak, ops = plan.claims.peak_bytes, len(program.graph.ops)
    least = least_cap_bytes(peak, ops=ops)
    if cap_bytes >= least:
        return
    floor = _floor(program)
    raise BudgetError(
        f"The plan's peak of {format_bytes(peak)} needs a cap of at least {format_bytes(least)}, "
        f"with what the worker takes; got {format_bytes(cap_bytes)}. The floor of this step is "
        f"{format_bytes(floor.floor_bytes)}, set by {floor.set_by}.",
        code="cap_too_small",
        hint=f"Give --cap {least >> 20}MiB, or leave --plan out: a plan is then made for the cap.",
        details=_details(cap_bytes, floor, least),
    )


def can_enforce() -> str:
    """Why no limit of the kernel's can be set here; "" where one can."""
    from poet_runtime.memory.cgroup import memory_cgroup

    try:
        with memory_cgroup(None):
            return ""
    except ReplayError as error:
        return f"{error.message} {error.hint}"


def _split_above(rough: Program, budget_bytes: int) -> int | None:
    """Ops above this are traced in parts; None where ops leave room enough as they are."""
    from poet_runtime.splitting_choice import NEAR_FLOOR_PERCENT, PARTS_OF_BUDGET

    floor = _floor(rough).floor_bytes  # without workspace: the true one is no lower
    if budget_bytes and floor * 100 <= budget_bytes * NEAR_FLOOR_PERCENT:
        return None
    return budget_bytes // PARTS_OF_BUDGET


def _floor(program: Program) -> RamFloor:
    from poet_core.bounds import ram_floor
    from poet_core.devices import load_device
    from poet_core.problem import make_problem

    host = load_device("host")
    problem = make_problem(program.graph, host, ram_bytes=host.ram_bytes)
    return ram_floor(program.graph, problem.budget)


def _too_small(cap_bytes: int, budget: int, floor: RamFloor, least: int) -> BudgetError:
    left = (
        f"leaves {format_bytes(budget)} for the plan"
        if budget
        else "is less than Python, torch and the step's code take"
    )
    return BudgetError(
        f"A cap of {format_bytes(cap_bytes)} {left}; the floor of this step is "
        f"{format_bytes(floor.floor_bytes)}, set by {floor.set_by}.",
        code="cap_too_small",
        hint=f"The least cap that works is {least >> 20}MiB; or use a smaller batch.",
        details=_details(cap_bytes, floor, least),
    )


def _details(cap_bytes: int, floor: RamFloor, least: int) -> dict[str, Any]:
    return {
        "cap_bytes": cap_bytes,
        "floor_bytes": floor.floor_bytes,
        "op": floor.op_id,
        "set_by": floor.set_by,
        "least_cap_bytes": least,
    }
