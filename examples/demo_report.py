"""What the demo found, and the table that says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poet_core.bounds import RamFloor
from poet_core.plan import Plan
from poet_core.simulate import Judgement
from poet_core.units import format_bytes, format_joules, format_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One run of the demo; `runs` holds the reports of its three training processes."""

    graph_sha256: str
    op_count: int
    device: str
    keep: Judgement
    floor: RamFloor
    plan: Plan
    judgement: Judgement
    runs: dict[str, dict[str, Any]]
    steps: int
    optimizer: str

    @property
    def measured_peak_bytes(self) -> int:
        """Peak of live tensor memory during planned steps, by the allocator's own events."""
        return int(self.runs["planned"]["measured_peak_bytes"])

    @property
    def identical_to_unconstrained(self) -> bool:
        """Every loss and the SHA-256 of every state tensor agree with the unconstrained replay."""
        return self._same("unconstrained")

    @property
    def identical_to_eager(self) -> bool:
        """The same against eager PyTorch."""
        return self._same("eager")

    @property
    def holds(self) -> bool:
        """Whether the demo shows what it promises."""
        inside = self.measured_peak_bytes <= self.plan.budget.ram_bytes
        return inside and self.identical_to_unconstrained

    def _same(self, other: str) -> bool:
        keys = ("losses", "fingerprint")
        return all(self.runs["planned"][key] == self.runs[other][key] for key in keys)

    def to_document(self) -> dict[str, Any]:
        """The report as JSON."""
        claims = self.plan.claims
        return {
            "graph_sha256": self.graph_sha256,
            "ops": self.op_count,
            "optimizer": self.optimizer,
            "device": self.device,
            "steps": self.steps,
            "keep_everything_bytes": self.keep.peak_bytes,
            "floor_bytes": self.floor.floor_bytes,
            "floor_set_by": self.floor.set_by,
            "budget_bytes": self.plan.budget.ram_bytes,
            "planned_peak_bytes": claims.peak_bytes,
            "measured_peak_bytes": self.measured_peak_bytes,
            "keep_everything_seconds": self.keep.step_seconds,
            "planned_seconds": claims.step_seconds,
            "keep_everything_joules": self.keep.energy_joules,
            "planned_joules": claims.energy_joules,
            "flash_bytes_written_per_step": claims.flash_bytes_written,
            "planner": {
                "formulation": self.plan.planned_by.formulation,
                "solver": self.plan.planned_by.solver,
                "status": self.plan.planned_by.status,
                "wall_seconds": self.plan.planned_by.wall_seconds,
                "gap": self.plan.gap,
            },
            "identical_to_unconstrained": self.identical_to_unconstrained,
            "identical_to_eager": self.identical_to_eager,
            "memory": {
                "keep_everything": list(self.keep.memory_bytes),
                "planned": list(self.judgement.memory_bytes),
            },
            "runs": {
                mode: {key: value for key, value in run.items() if key != "losses"}
                for mode, run in self.runs.items()
            },
        }


def print_report(report: Report) -> None:
    """The table, on the terminal."""
    from rich.console import Console
    from rich.table import Table

    planned = report.runs["planned"]
    table = Table(
        title=f"Joint training of a ProjectionNet on {planned['data']}", show_header=False
    )
    for label, value in _rows(report):
        table.add_row(label, value)
    Console().print(table)


def _rows(report: Report) -> list[tuple[str, str]]:
    keep, claims, planned = report.keep, report.plan.claims, report.runs["planned"]
    budget = report.plan.budget.ram_bytes

    def share(size_bytes: int) -> str:
        return f"{format_bytes(size_bytes)} ({100 * size_bytes / keep.peak_bytes:.1f}%)"

    def against(value: float, base: float, text: str) -> str:
        return f"{text} ({100 * (value / base - 1):+.2f}% against keep-everything)"

    data_note = "" if planned["data"] == "mnist" else " (not MNIST: no claim)"
    speed = planned["seconds_per_step"] / report.runs["unconstrained"]["seconds_per_step"]
    yes = {True: "yes", False: "NO"}
    replays = f"{yes[report.identical_to_unconstrained]} (unconstrained replay)"
    eager = f"{yes[report.identical_to_eager]} (eager PyTorch)"
    return [
        ("RAM, everything kept", format_bytes(keep.peak_bytes)),
        ("RAM budget", share(budget)),
        ("RAM floor", f"{share(report.floor.floor_bytes)}, set by {report.floor.set_by}"),
        ("Planned peak", share(claims.peak_bytes)),
        ("Measured peak", share(report.measured_peak_bytes)),
        (
            f"Time a step on {report.device}",
            against(claims.step_seconds, keep.step_seconds, format_seconds(claims.step_seconds)),
        ),
        (
            f"Energy a step on {report.device}",
            against(claims.energy_joules, keep.energy_joules, format_joules(claims.energy_joules)),
        ),
        ("Flash written a step", format_bytes(claims.flash_bytes_written)),
        ("Planner", report.plan.planned_by.status),
        (
            "Time a step here",
            f"{format_seconds(planned['seconds_per_step'])}, {speed:.2f}x of unconstrained",
        ),
        (f"Identical to the bit, {report.steps} steps", f"{replays}, {eager}"),
        ("Accuracy of the trainer", f"{100 * planned['trainer_accuracy']:.2f}%{data_note}"),
        (
            "Accuracy of the projection net",
            f"{100 * planned['projection_accuracy']:.2f}%{data_note}",
        ),
    ]
