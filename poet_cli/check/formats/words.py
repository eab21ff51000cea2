"""What every format says of a row in the same words: order, overheads, limit and actual, the fix.

Invariant: nothing here is escaped yet; each format does that for itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from poet_cli.check.baseline import Change
from poet_cli.check.entries import Entry, Level
from poet_cli.check.report import Report, Row, Verdict
from poet_core.units import format_bytes, format_joules, format_seconds

# The advice says what to write as: Set ram = "320MiB": why.
_SETTING = re.compile(
    r'Set ((?:[a-z_]+|ram\.(?:[A-Za-z0-9_-]{1,64}|"[^"\\]{1,60}")) = '
    r'(?:"[^"\\]{1,60}"|true|false|[0-9.]{1,12}))(?=[:.])'
)
MOST_HELD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit that is broken, in size-limit's manner."""

    limit: str
    actual: str
    over: str


def is_failure(row: Row) -> bool:
    """Whether the row alone makes the check fail."""
    return row.internal or (row.verdict is not Verdict.FITS and row.weighs is Level.ERROR)


def is_warning(row: Row) -> bool:
    """Whether the row is only told."""
    return row.verdict is not Verdict.FITS and not is_failure(row)


def ordered(report: Report) -> list[Row]:
    """Failures first, then warnings, then what fits; within each as the configuration has them."""
    return sorted(report.rows, key=lambda row: 0 if is_failure(row) else 1 + (not is_warning(row)))


def verdict_words(row: Row) -> str:
    """The verdict as a table shows it."""
    if row.internal:
        return "internal error"
    return f"{row.verdict.value} (warning)" if is_warning(row) else row.verdict.value


def summary_line(report: Report) -> str:
    """How many of what."""
    failures = sum(map(is_failure, report.rows))
    warnings = sum(map(is_warning, report.rows))
    fitting = len(report.rows) - failures - warnings
    parts = [f"{fitting} of {len(report.rows)} fit"]
    parts += [_counted(failures, "failure")] if failures else []
    parts += [_counted(warnings, "warning")] if warnings else []
    kept = sum(row.from_cache for row in report.rows)
    known = f" ({kept} known from before)" if kept else ""
    return f"{', '.join(parts)}, in {format_seconds(report.took_seconds)}{known}."


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def model_words(entry: Entry) -> str:
    """The model, with its batch size where one was asked for."""
    return entry.step if entry.batch_size is None else f"{entry.step} batch {entry.batch_size}"


def size(size_bytes: int | None) -> str:
    """A size, or nothing where it is not known."""
    return "" if size_bytes is None else format_bytes(size_bytes)


def signed_size(size_bytes: int | None) -> str:
    """A difference of sizes with its sign."""
    if size_bytes is None:
        return ""
    return (
        f"{'+' if size_bytes > 0 else '-' if size_bytes < 0 else ''}{format_bytes(abs(size_bytes))}"
    )


def overhead(value: float | None, base: float | None) -> str:
    """How much more than keep-everything, e.g. +3.2%."""
    if value is None or not base:
        return ""
    return percent(value / base - 1, signed=True)


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share in percent, with a decimal where that matters, and no -0%."""
    if share is None:
        return ""
    shown = f"{100 * share:.1f}" if abs(share) < 10 else f"{100 * share:.0f}"
    shown = "0" if float(shown) == 0 else shown.removesuffix(".0")
    return f"{'+' if signed and share > 0 and shown != '0' else ''}{shown}%"


def excess(row: Row) -> Excess | None:
    """Which limit is broken and by how much, where that is a number."""
    entry = row.entry
    if row.floor_bytes is not None and row.floor_bytes > entry.ram_bytes:
        return Excess(
            limit=f"{format_bytes(entry.ram_bytes)} of RAM",
            actual=f"{format_bytes(row.floor_bytes)}, the least that any plan needs",
            over=f"{format_bytes(row.floor_bytes - entry.ram_bytes)}",
        )
    for limit, value, base, shown, what in (
        (entry.max_time, row.seconds, row.base_seconds, format_seconds, "time"),
        (entry.max_energy, row.joules, row.base_joules, format_joules, "energy"),
    ):
        if limit is None or value is None or not base or value <= limit.value(base):
            continue
        return Excess(
            limit=f"{what} of {shown(limit.value(base))} ({limit.text})",
            actual=f"{shown(value)} ({value / base:.2f}x) by the best plan found",
            over=f"{shown(value - limit.value(base))}",
        )
    return None


def fix_of(row: Row) -> str:
    """What can be pasted into the configuration; "" where no such thing is known to help."""
    found = (_SETTING.match(sentence) for sentence in row.advice)
    return next((one[1] for one in found if one is not None), "")


def other_advice(row: Row) -> list[str]:
    """The advice beside the first fix."""
    fix = fix_of(row)
    return [sentence for sentence in row.advice if not fix or not sentence.startswith(f"Set {fix}")]


def at_peak_words(row: Row) -> str:
    """The largest storages in RAM at the floor or at the peak."""
    shown = [
        f"{held.name} {format_bytes(held.size_bytes)}" + (f" ({held.role})" if held.role else "")
        for held in row.at_peak[:MOST_HELD]
    ]
    more = len(row.at_peak) - MOST_HELD
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def details(row: Row) -> list[tuple[str, str]]:
    """What is to be known of a row that does not fit: a label and a sentence each."""
    broken = excess(row)
    lines = [("", row.reason)]
    if broken is not None:
        lines += [("Limit", broken.limit), ("Actual", broken.actual), ("Over by", broken.over)]
    if row.floor_set_by:
        lines.append(("Floor set by", row.floor_set_by))
    if row.at_peak:
        where = "In RAM there" if row.code == "ram_below_floor" else "In RAM at the peak"
        lines.append((where, at_peak_words(row)))
    if row.least_bytes is not None and row.least_bytes > row.entry.ram_bytes:
        lines.append(("Least known", f"{format_bytes(row.least_bytes)}, by a judged plan"))
    lines += [("Help", sentence) for sentence in other_advice(row)]
    if row.hint:
        lines.append(("Hint", row.hint))
    if row.internal:
        lines.append(("Internal", "this is a fault of poet's, please report it"))
    return lines


def change_words(change: Change | None) -> str:
    """What is other than in the baseline, short enough for a table."""
    if change is None:
        return ""
    if change.new:
        return "new"
    if change.verdict_changed and change.was is not None:
        return f"was: {change.was.value}"
    if change.peak_bytes:
        return f"peak {signed_size(change.peak_bytes)}"
    if change.floor_bytes:
        return f"floor {signed_size(change.floor_bytes)}"
    if change.seconds_ratio and percent(change.seconds_ratio) != "0%":
        return f"time {percent(change.seconds_ratio, signed=True)}"
    if change.joules_ratio and percent(change.joules_ratio) != "0%":
        return f"energy {percent(change.joules_ratio, signed=True)}"
    return "="


def change_sentence(change: Change) -> str:
    """Everything that is other than in the baseline; "" where nothing that shows is."""
    if change.new:
        return "new"
    parts = []
    if change.verdict_changed and change.was is not None:
        parts.append(f"was: {change.was.value}")
    if change.peak_bytes:
        parts.append(f"peak {signed_size(change.peak_bytes)}")
    if change.floor_bytes:
        parts.append(f"RAM floor {signed_size(change.floor_bytes)}")
    for what, share in (("time", change.seconds_ratio), ("energy", change.joules_ratio)):
        if share and percent(share) != "0%":
            parts.append(f"{what} {percent(share, signed=True)}")
    return ", ".join(parts)
