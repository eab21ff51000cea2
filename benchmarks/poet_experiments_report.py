"""Results of POET's experiments -> checks, tables, pictures.

    NAME.md             every table
    NAME-DEVICE.svg     energy against RAM, a small picture a network and scope
    NAME-published.svg  the same of POET's own lists

Invariant: nothing is measured here: a report can be made again from stored results alone, in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.poet_experiments_ablations import overlap_table, scope_table, without_table
from benchmarks.poet_experiments_grid import Grid, is_other
from benchmarks.poet_experiments_ours import OURS
from benchmarks.poet_experiments_picture import device_picture, published_picture
from benchmarks.poet_experiments_points import Facts, Outcome, Result, Scope, Series
from benchmarks.poet_experiments_tables import (
    acceptance_table,
    cut_tables,
    least_table,
    published_table,
    training_tables,
)

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
    """Write NAME.md and the pictures into a folder; what to tell about it is returned."""
    grid = Grid(facts, results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown(about, facts, results), encoding="utf-8")
    pictures = {
        device: device_picture(grid, device)
        for device in dict.fromkeys(one.device for one in grid.series if one.scope in _TRACED)
    }
    if any(one.scope is Scope.PUBLISHED for one in grid.series):
        pictures["published"] = published_picture(grid)
    for what, picture in pictures.items():
        (folder / f"{name}-{what}.svg").write_text(picture, encoding="utf-8")
    wrong = faults(facts, results)
    told = [counts(facts, results), *(f"- {one.line}" for one in wrong)]
    told += [f"- not done: {title}" for title in about["not_done"]]
    return "\n".join(told)


def markdown(about: dict[str, Any], facts: Sequence[Facts], results: Sequence[Result]) -> str:
    """Every table."""
    grid = Grid(facts, results)
    parts = [
        _heading(about),
        "## In short\n\n" + in_short(facts, results),
        "## Memory cut at 1% more energy at most\n\n" + _CUTS + cut_tables(grid, grid.cheap),
        "## Memory cut at 10% more time at most\n\n"
        + _TIMES
        + _CUTS
        + cut_tables(grid, grid.quick),
        "## The least RAM that was reached\n\nOn the headline's device. "
        + _LEAST
        + least_table(grid),
        "## Can it train?\n\n" + _TRAINING + training_tables(grid),
        "## Ours with something taken away\n\n" + _WITHOUT + without_table(grid),
        "### Without overlap\n\n" + overlap_table(grid),
        "### Without the whole step\n\n" + _SCOPE + scope_table(grid),
        "## POET's own lists of layers\n\n" + published_table(grid),
        "## Faults\n\n" + fault_list(faults(facts, results)),
    ]
    return "\n\n".join(parts) + "\n"


def in_short(facts: Sequence[Facts], results: Sequence[Result]) -> str:
    """Counts, and what was asked for beside what was found."""
    return f"{counts(facts, results)}\n\n{acceptance_table(Grid(facts, results))}"


def counts(facts: Sequence[Facts], results: Sequence[Result]) -> str:
    """How many points, where others have plans there, and where ours is beaten."""
    points = {(one.series, one.label) for one in results}
    others = {
        (one.series, one.label)
        for one in results
        if one.energy_joules is not None and is_other(one.method)
    }
    mine = {
        (one.series, one.label)
        for one in results
        if one.energy_joules is not None and one.method == OURS
    }
    wrong = faults(facts, results)
    beaten = {(one.series, one.label) for one in wrong if is_other(one.method)} & others
    return (
        f"{len(points)} points of {len(facts)} series, {len(results)} results; another method has a plan "
        f"at {len(others)} points, ours at {len(mine)}; another method is cheaper or alone at "
        f"{len(beaten)}; {len(wrong)} faults in all."
    )


def fault_list(wrong: Sequence[Fault]) -> str:
    """A line each, or that there is none."""
    if not wrong:
        return "None: nobody is cheaper than ours anywhere, and no plan was refused."
    return "\n".join(f"- {one.line}" for one in wrong)


_TRACED = (Scope.ACTIVATIONS, Scope.SGD, Scope.ADAM)
_CUTS = (
    "**Ours** (the best of the other methods): the least budget asked at which there is a plan at that "
    "price, in percent below keep-everything's peak; a dash: none. A network's name says its pixels a side or its tokens and its batch, and ends in -split "
    "where large ops are in parts.\n\n"
)
_TIMES = (
    "Plans of ours are those of least energy and, on the headline's device, those for the least time; the "
    "others' are those of least energy, of which what recomputes is about the quickest as well. "
)
_LEAST = (
    "The floor is what the named op needs at once, so no plan of any order can have less. In parts: the "
    "same with every op in the smallest parts that compute the same bits.\n\n"
)
_TRAINING = (
    "Ours with all the RAM that the device has: the activations alone, which is what the paper counts, and "
    "the whole step; energy over keep-everything's, seconds by the device's profile.\n\n"
)
_WITHOUT = (
    "Each cell: the cut at 1% more energy; the cut at any price; the mean extra energy over ours at the "
    "budgets where both have a plan.\n\n"
)
_SCOPE = (
    "What planning activations alone leaves: parameters, buffers and optimizer state in RAM, gradients of "
    "parameters not even counted; at 1% more energy.\n\n"
)


def _heading(about: dict[str, Any]) -> str:
    machine, took = about["machine"], about["job_seconds"]
    run = (
        f"By `make poet-experiments` ({about['jobs']} units at a time, {about['seconds']:g} s for a plan of "
        f"a large graph) on 2 of {machine['cores']} cores of {machine['processor']}; Python "
        f"{machine['python']}. A row again: `python -m benchmarks.poet_experiments --only "
        f"'NETWORK, SCOPE, DEVICE'`, any part of that. Every plan was accepted by the judge. The planner and its ablations took "
        f"{took.get(OURS, 0.0):,.0f} s in all, all units together {sum(took.values()):,.0f} s."
    )
    lines = ["# POET's experiments, rerun", "", run]
    for why in about["skipped"]:
        lines += ["", f"Skipped: {why}"]
    if about["not_done"]:
        lines += ["", f"{len(about['not_done'])} units are not done; the same command continues."]
    return "\n".join(lines)
