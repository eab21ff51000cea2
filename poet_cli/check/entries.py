"""What is checked: one model on one device within one budget, as the configuration asks for it.

Invariant: an entry is complete in itself. The matrix of models, devices and batch sizes has been
multiplied out, sizes are bytes, limits are numbers; `place` still says where it was written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Level(StrEnum):
    """How much a verdict weighs."""

    ERROR = "error"
    """It decides the exit code."""
    WARN = "warn"
    """It is shown and does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most this much time or energy: exactly one of the two is given.

    `ratio`: times what keep-everything takes on that device; `absolute`: seconds or joules.
    `text` is how the configuration says it.
    """

    text: str
    ratio: float | None = None
    absolute: float | None = None

    def __post_init__(self) -> None:
        assert (self.ratio is None) != (self.absolute is None), self

    def value(self, base: float) -> float:
        """Seconds or joules, where keep-everything takes `base`."""
        if self.absolute is not None:
            return self.absolute
        assert self.ratio is not None
        return self.ratio * base


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an entry stands: `file` as the user would open it, `line` from 1."""

    file: Path
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row to be: `step` is MODULE:FUNCTION, `device` a profile's name or the path of one.

    `ram_by_device`: the configuration has a table of budgets, one a device. `batch_size` is given to the factory as a keyword where the matrix names batch sizes.
    `planner_seconds` is the wall time that the planner may take. `undecided` says how much it
    weighs when that time ends without a plan and without a proof.
    """

    name: str
    step: str
    device: str
    ram_bytes: int
    place: Place
    ram_by_device: bool = False
    batch_size: int | None = None
    max_time: Limit | None = None
    max_energy: Limit | None = None
    page: bool = True
    rematerialize: bool = True
    planner_seconds: float = 10.0
    level: Level = Level.ERROR
    undecided: Level = Level.ERROR
