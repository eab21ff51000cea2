"""What paging costs: bytes written, what that is of the flash's life, and time waited for it.

Invariant: figures are counts of what was written, never of what was planned; beside them stands
the plan's own figure, so that a runtime that writes more than its plan is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WearReport:
    """Writes so far, in whole blocks. `written_bytes`: all, parking included; `step_bytes`: those
    of `steps` completed steps; `planned_step_bytes`: the plan's figure for one, which counts no
    padding of last blocks; `checkpoint_bytes`: those of checkpoints, beside them.
    `endurance_bytes`: what the flash bears in its life, None where nobody said. `busy_seconds` of
    transfers, and `waited_seconds` for them, over all steps (not measured on a GPU's copy stream).
    `direct`: past the page cache; None where nothing pages, or to no disk. `where` copies go, and
    the `host_bytes` of RAM that paging takes from the host, beside the plan."""

    steps: int
    written_bytes: int
    step_bytes: int
    planned_step_bytes: int
    checkpoint_bytes: int
    endurance_bytes: int | None
    busy_seconds: float = 0.0
    waited_seconds: float = 0.0
    direct: bool | None = None
    where: str = "flash"
    host_bytes: int = 0

    @property
    def bytes_per_step(self) -> float:
        """Measured writes of a step, in bytes; 0 before the first."""
        return self.step_bytes / self.steps if self.steps else 0.0

    @property
    def hidden(self) -> float | None:
        """The part of the transfers' time that nobody waited for."""
        return max(0.0, 1 - self.waited_seconds / self.busy_seconds) if self.busy_seconds else None

    @property
    def life_used(self) -> float | None:
        """The part of the flash's life that this run has used, checkpoints included: they are
        taken to lie on the same flash."""
        if not self.endurance_bytes:
            return None
        return (self.written_bytes + self.checkpoint_bytes) / self.endurance_bytes

    @property
    def steps_left(self) -> int | None:
        """Steps until the flash's life would be used up, were it new when this run began."""
        each = self.bytes_per_step or self.planned_step_bytes
        if self.steps:
            each += self.checkpoint_bytes / self.steps
        if self.endurance_bytes is None or not each:
            return None
        left = self.endurance_bytes - self.written_bytes - self.checkpoint_bytes
        return max(0, int(left / each))

    def line(self) -> str:
        """One line for people."""
        text = (
            f"{format_bytes(self.written_bytes)} written to {self.where}, "
            f"{format_bytes(int(self.bytes_per_step))} a step over {self.steps} steps "
            f"(planned {format_bytes(self.planned_step_bytes)}), "
            f"{format_bytes(self.checkpoint_bytes)} of checkpoints"
        )
        if self.direct is False:
            text += ", through the page cache (no direct transfers here)"
        if self.host_bytes:
            text += f", {format_bytes(self.host_bytes)} of the host's memory"
        if self.where != "flash":
            return text
        if self.life_used is None:
            return f"{text}; endurance unknown"
        return f"{text}; {self.life_used:.2%} of its endurance, {self.steps_left} steps left"
