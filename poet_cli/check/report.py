"""What a check found: a row for each entry, and the exit code of all together.

Invariant: a verdict is never better founded than it says. `FITS` has a judged plan, `DOES_NOT_FIT`
a proof (the RAM floor, or a bound above the limit), everything else is `UNDECIDED` or `FAILED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from poet_cli.check.entries import Entry, Level


class Verdict(StrEnum):
    """What is known of an entry."""

    FITS = "fits"
    """A plan inside every limit, accepted by the judge."""
    DOES_NOT_FIT = "does not fit"
    """Proven: the RAM floor, or a lower bound, is above the limit."""
    UNDECIDED = "undecided"
    """Neither a plan nor a proof within the planner's time."""
    FAILED = "failed"
    """There is no graph to plan: the factory raised, hung, or cannot be traced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A storage that is in RAM at the peak."""

    name: str
    role: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry's outcome. What is not known is None.

    `reason` is one sentence, `code` its stable name (`ram_below_floor`, `limit_below_bound`,
    `not_found_in_time`, `trace_timed_out`, ...; empty where it fits). `peak_bytes`, `seconds` and
    `joules` are the plan's by the judge, `base_*` keep-everything's; `gap` is a share of the cost.
    `least_bytes` is the least budget that a plan is known for, `advice` what would help, each a
    sentence that can be acted on.
    """

    entry: Entry
    verdict: Verdict
    reason: str
    code: str = ""
    hint: str = ""
    internal: bool = False  # a fault of ours, not of the model's or the configuration's
    floor_bytes: int | None = None
    floor_set_by: str = ""
    keep_everything_bytes: int | None = None
    peak_bytes: int | None = None
    seconds: float | None = None
    base_seconds: float | None = None
    joules: float | None = None
    base_joules: float | None = None
    gap: float | None = None
    flash_written_bytes: int | None = None
    least_bytes: int | None = None
    at_peak: tuple[Held, ...] = ()
    advice: tuple[str, ...] = ()
    from_cache: bool = False
    took_seconds: float = 0.0

    @property
    def headroom_bytes(self) -> int | None:
        """The budget less the peak; negative where the floor alone is above it."""
        needed = self.peak_bytes if self.peak_bytes is not None else self.floor_bytes
        return None if needed is None else self.entry.ram_bytes - needed

    @property
    def weighs(self) -> Level:
        """Whether this row decides the exit code."""
        if self.verdict is Verdict.UNDECIDED and self.entry.level is Level.ERROR:
            return self.entry.undecided
        return self.entry.level


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All rows, in the order of the configuration, and what the run took."""

    rows: tuple[Row, ...]
    took_seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())  # for people: what was left out, and why

    def exit_code(self) -> int:
        """0 fits; 1 proven not to; 2 a model could not be traced; 3 undecided; 4 internal.

        Of several, the one that says most about what to do first: 4, 2, 1, 3, 0.
        """
        codes = set(_codes(self.rows))
        return next((code for code in (4, 2, 1, 3) if code in codes), 0)


def _codes(rows: Iterable[Row]) -> Iterable[int]:
    for row in rows:
        if row.internal:
            yield 4
        elif row.weighs is Level.ERROR:
            yield {
                Verdict.FITS: 0,
                Verdict.DOES_NOT_FIT: 1,
                Verdict.FAILED: 2,
                Verdict.UNDECIDED: 3,
            }[row.verdict]
