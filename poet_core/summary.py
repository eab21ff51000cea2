"""What a judged plan means: against its budget, against keep-everything, against the floor.

One summary for the service's replies, the command line and reports. Every figure is the judge's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.simulate import Judgement
from poet_core.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSummary:
    """Figures of one plan. Ratios are of keep-everything, None where its figure is 0."""

    ops: int
    ram_bytes: int
    peak_bytes: int
    step_seconds: float
    energy_joules: float
    time_ratio: float | None
    energy_ratio: float | None
    gap: float | None
    bound_holds_for: str | None
    recomputed_ops: int
    transfers: int
    flash_bytes_written: int
    keep_everything_bytes: int
    keep_everything_seconds: float
    keep_everything_joules: float
    floor_bytes: int
    floor_set_by: str

    def to_document(self) -> dict[str, Any]:
        """The summary as a JSON value."""
        return asdict(self)

    def line(self) -> str:
        """One line for people."""
        gap = "no bound" if self.gap is None else f"gap {self.gap:.2%}"
        if self.gap is not None and self.bound_holds_for != "any_order":
            gap += " (for this order)"
        return (
            f"fits: peak {format_bytes(self.peak_bytes)} of {format_bytes(self.ram_bytes)} "
            f"({self.peak_bytes / max(1, self.keep_everything_bytes):.1%} of keep-everything), "
            f"{_against(self.time_ratio)} time, {_against(self.energy_ratio)} energy, {gap}, "
            f"{format_bytes(self.flash_bytes_written)} flash written a step"
        )


def summarize(graph: TrainingGraph, plan: Plan, judgement: Judgement) -> PlanSummary:
    """The summary of a plan that the judge has accepted with `judgement`."""
    budget = plan.budget
    keep = judge_keep_everything(
        graph,
        plan.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    )
    floor = ram_floor(graph, budget, paging=plan.allowed.page)
    return PlanSummary(
        ops=len(graph.ops),
        ram_bytes=budget.ram_bytes,
        peak_bytes=judgement.peak_bytes,
        step_seconds=judgement.step_seconds,
        energy_joules=judgement.energy_joules,
        time_ratio=_ratio(judgement.step_seconds, keep.step_seconds),
        energy_ratio=_ratio(judgement.energy_joules, keep.energy_joules),
        gap=plan.gap,
        bound_holds_for=str(plan.bound.holds_for) if plan.bound else None,
        recomputed_ops=judgement.compute_runs - len(graph.ops),
        transfers=judgement.transfer_count,
        flash_bytes_written=judgement.flash_bytes_written,
        keep_everything_bytes=keep.peak_bytes,
        keep_everything_seconds=keep.step_seconds,
        keep_everything_joules=keep.energy_joules,
        floor_bytes=floor.floor_bytes,
        floor_set_by=floor.set_by,
    )


def _ratio(value: float, base: float) -> float | None:
    return value / base if base > 0 else None


def _against(ratio: float | None) -> str:
    return "unknown" if ratio is None else f"{ratio - 1:+.2%}"
