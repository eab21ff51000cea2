"""Results of POET's experiments -> checks and tables.

Invariant: nothing is computed here that is not in the stored results, so a report can be made again from
them alone, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.poet_experiments_ours import OURS
from benchmarks.poet_experiments_points import Facts, Outcome, Result, Series

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A point at which something is not as it should be, in a sentence."""

    series: Series
    label: str
    method: str
    said: str

    @property
    def line(self) -> str:
        return f"{self.series.title}, {self.label}: {self.method}: {self.said}"


def faults(facts: Iterable[Facts], results: Sequence[Result]) -> list[Fault]:
    """Where ours is dearer than another method or has no plan where another has one, and where a
    plan was refused or a method failed."""
    known = {one.series for one in facts}
    ours = {(result.series, result.label): result for result in results if result.method == OURS}
    found = []
    for result in results:
        said = None
        if result.outcome in (Outcome.REFUSED, Outcome.FAILED):
            said = f"{result.outcome}: {result.said}"
        elif result.energy_joules is not None and result.series in known:
            said = _beaten(result, ours.get((result.series, result.label)))
        if said is not None:
            found.append(
                Fault(series=result.series, label=result.label, method=result.method, said=said)
            )
    return found


def _beaten(result: Result, ours: Result | None) -> str | None:
    """How a plan beats ours; None where it does not, or ours was not asked."""
    if ours is None or result.energy_joules is None:
        return None
    if ours.energy_joules is None:
        return f"has a plan where ours has none ({ours.said})"
    if result.energy_joules < ours.energy_joules * (1 - _ROUNDING):
        more = 100 * (ours.energy_joules / result.energy_joules - 1)
        return f"ours costs {more:.4f} % more"
    return None


def write_report(
    folder: Path,
    name: str,
    about: dict[str, Any],
    facts: Sequence[Facts],
    results: Sequence[Result],
) -> str:
    """Write NAME.md into a folder; the text is returned."""
    wrong = faults(facts, results)
    points = {(result.series, result.label) for result in results}
    counts = f"{len(points)} points of {len(facts)} series, {len(results)} results"
    text = "\n".join(
        [
            f"{counts}; {len(wrong)} faults.",
            "",
            *(f"- {one.line}" for one in wrong),
            *(f"- not done: {title}" for title in about["not_done"]),
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    return text
