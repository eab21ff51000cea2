"""What no plan can beat: the RAM floor, and which op sets it; the time and energy of every op once.

An op needs its reads, writes and mutates, its workspace and the reserved bytes at the same time.
Without paging the persistent storages that it does not touch are resident too. The step also
begins with every input in RAM and ends with every result.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.errors import BudgetError
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Problem
from poet_core.text import printable
from poet_core.units import format_bytes, format_joules, format_seconds

# Limits given as ratios are sums of floats in one order, what is compared with them in another.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class RamFloor:
    """The least RAM that any plan needs. `op_id` is None where the start or end of the step sets
    it; `set_by` says it in words that are safe to show."""

    floor_bytes: int
    op_id: int | None
    set_by: str


def ram_floor(graph: TrainingGraph, budget: Budget, *, paging: bool = True) -> RamFloor:
    """The floor under the reserved bytes and alignment of `budget` (its RAM is not looked at)."""
    sizes = [budget.rounded(storage.size_bytes) for storage in graph.storages]
    persistent = {storage.id for storage in graph.storages if storage.persistent}

    def needed(storages: set[int], workspace_bytes: int = 0) -> int:
        held = storages if paging else storages | persistent
        return budget.reserved_bytes + sum(sizes[item] for item in held) + workspace_bytes

    inputs = {s.id for s in graph.storages if graph.begins_resident(s.id) and not s.persistent}
    results = {s.id for s in graph.storages if s.result}
    worst = RamFloor(floor_bytes=needed(inputs), op_id=None, set_by="the inputs of the step")
    at_end = needed(results)
    if at_end > worst.floor_bytes:
        worst = RamFloor(floor_bytes=at_end, op_id=None, set_by="the results of the step")
    for op in graph.ops:
        at_op = needed(set(op.touches), budget.rounded(op.workspace_bytes))
        if at_op > worst.floor_bytes:
            label = f"op {op.id} ({printable(op.name)}, {printable(op.kind)})"
            worst = RamFloor(floor_bytes=at_op, op_id=op.id, set_by=label)
    return worst


def check_above_floor(graph: TrainingGraph, budget: Budget, *, paging: bool = True) -> RamFloor:
    """The floor, or BudgetError (`ram_below_floor`) with the op, the bytes and the least budget."""
    floor = ram_floor(graph, budget, paging=paging)
    if budget.ram_bytes >= floor.floor_bytes:
        return floor
    raise BudgetError(
        f"The RAM budget of {budget.ram_bytes} bytes ({format_bytes(budget.ram_bytes)}) is below "
        f"the floor of {floor.floor_bytes} bytes ({format_bytes(floor.floor_bytes)}), set by "
        f"{floor.set_by}.",
        code="ram_below_floor",
        hint=f"Give at least {floor.floor_bytes} bytes, use a smaller batch"
        + ("." if paging else ", or allow paging."),
        details={
            "floor_bytes": floor.floor_bytes,
            "ram_bytes": budget.ram_bytes,
            "op": floor.op_id,
            "set_by": floor.set_by,
        },
    )


def check_base_costs(problem: Problem) -> None:
    """Every op runs at least once: BudgetError (`time_below_base`, `energy_below_base`) where that
    alone is over a limit."""
    budget, costs = problem.budget, problem.costs
    for limit, base, code, name, shown in (
        (budget.step_seconds, costs.base_seconds, "time_below_base", "time", format_seconds),
        (budget.energy_joules, costs.base_joules, "energy_below_base", "energy", format_joules),
    ):
        if limit is not None and base > limit * (1 + _ROUNDING):
            raise BudgetError(
                f"The step's {name} limit of {shown(limit)} is below the {shown(base)} that "
                "running every op once takes.",
                code=code,
                hint=f"Allow at least {shown(base)}, or use a smaller batch.",
                details={"limit": limit, "base": base},
            )
