"""IsolatedMemory: what a worker took, each figure from a source of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poet_core.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedMemory:
    """What the worker took, in bytes, each from a source of its own; None where there is none.

    `planned`: the judge's peak. `arena`: the most that was in use in the arena after the first
    step, less `library`: what is in use between steps and in no plan, which is what libraries keep
    (oneDNN's kernels, made in the first step). `first_step`: the same of the first step, that
    making included. `resident`: the most that the arena may have had in RAM, all of it. `group`:
    the most that the kernel charged to the worker since it was ready, interpreter and code
    included. `excess_at`: the instruction that, after the first step, first took more than planned
    by more than a granule; "" for none.
    """

    planned_bytes: int
    arena_bytes: int | None
    first_step_bytes: int | None
    library_bytes: int | None
    resident_bytes: int | None
    group_bytes: int | None
    peak_at: str
    excess_at: str
    statistics: Mapping[str, int] | None

    def line(self) -> str:
        """For people."""
        parts = [f"planned {format_bytes(self.planned_bytes)}"]
        for name, found in (
            ("arena", self.arena_bytes),
            ("resident", self.resident_bytes),
            ("whole process", self.group_bytes),
        ):
            parts.append(f"{name} {'not measured' if found is None else format_bytes(found)}")
        if self.excess_at:
            parts.append(f"exceeded first at {self.excess_at}")
        return ", ".join(parts)
