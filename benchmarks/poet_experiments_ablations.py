"""What each part of the method is for, in numbers: ours with something taken away.

without paging, recomputing, reordering    plans of their own, at the headline's device
without overlap                            the same plans on a clock where transfers block
without the whole step                     activations are planned, state and gradients of it stay
"""

from __future__ import annotations

from benchmarks.planner_tables import percent, table
from benchmarks.poet_experiments_grid import MINE, Best, Grid
from benchmarks.poet_experiments_ours import GIVEN_ORDER, OURS, PAGE_ONLY, REMAT_ONLY
from benchmarks.poet_experiments_points import HEADLINE_DEVICE, Scope, Series
from poet_core.units import format_bytes

_NONE = "\u2013"
WITHOUT = {
    "without paging": REMAT_ONLY,
    "without recomputing": PAGE_ONLY,
    "given order": GIVEN_ORDER,
}
_STATE = ("parameter", "buffer", "optimizer_state")


def without_table(grid: Grid) -> str:
    """Cut at one percent more energy, cut at any price, extra energy where both have a plan."""
    rows = []
    for series in grid.series:
        if series.device != HEADLINE_DEVICE or series.scope is Scope.PUBLISHED:
            continue
        ours = _cell(grid, series, OURS)
        cells = [_cell(grid, series, method) for method in WITHOUT.values()]
        rows.append((series.network, str(series.scope), ours, *cells))
    return table(("network", "scope", "ours", *WITHOUT), rows)


def _cell(grid: Grid, series: Series, method: str) -> str:
    cheap, least = grid.cheap(series, (method,)), grid.best(series, (method,))
    if least is None:
        return "no plan at any budget"
    more = "" if method == OURS else f"; {_more(grid, series, method)}"
    return f"{_cut(cheap)}; {_cut(least)}{more}"


def _more(grid: Grid, series: Series, method: str) -> str:
    """Mean percent of energy beyond ours over the budgets where both have a plan."""
    extra = []
    for plan in grid.plans(series, method):
        ours = grid.at(series, plan.label, OURS)
        if ours is not None and ours.energy_joules and plan.energy_joules is not None:
            extra.append(100 * (plan.energy_joules / ours.energy_joules - 1))
    return _NONE if not extra else f"+{percent(max(0.0, sum(extra) / len(extra)))}%"


def overlap_table(grid: Grid) -> str:
    """Cut within a tenth more time, and the step's seconds at the tightest budget, both clocks."""
    rows = []
    for series in grid.whole():
        least = grid.best(series, (OURS,))
        if least is None or not _overlaps(grid, series):
            continue
        keep, result = grid.facts[series].keep_seconds, least.result
        assert result.step_seconds is not None
        assert result.blocking_seconds is not None
        rows.append(
            (
                series.network, str(series.scope), series.device,
                _cut(grid.quick(series, MINE)), _cut(grid.quick(series, MINE, overlap=False)),
                f"{result.step_seconds / keep:.3g}", f"{result.blocking_seconds / keep:.3g}",
            )
        )  # fmt: skip
    head = (
        "network", "scope", "device", "cut within +10% time", "the same without overlap",
        "time at least RAM, of keep-everything", "the same without overlap",
    )  # fmt: skip
    return table(head, rows)


def _overlaps(grid: Grid, series: Series) -> bool:
    """Whether the device hides transfers at all: some plan is quicker so than blocking."""
    return any(plan.step_seconds != plan.blocking_seconds for plan in grid.plans(series, OURS))


def scope_table(grid: Grid) -> str:
    """Whole steps at one percent more energy: ours, and activations alone beside a resident state."""
    rows = []
    for series in grid.whole():
        if series.device != HEADLINE_DEVICE or series.scope is Scope.ACTIVATIONS:
            continue
        of_paper = Series(network=series.network, scope=Scope.ACTIVATIONS, device=series.device)
        if of_paper not in grid.facts:
            continue
        facts, planned = grid.facts[series], grid.cheap(of_paper, MINE)
        state = sum(facts.bytes_by_role.get(role, 0) for role in _STATE)
        alone = None if planned is None else state + planned.ram_bytes
        rows.append(
            (
                series.network, str(series.scope), format_bytes(facts.keep_bytes),
                format_bytes(state), _NONE if alone is None else format_bytes(alone),
                _NONE if alone is None else f"{100 * (1 - alone / facts.keep_bytes):.1f}%",
                _cut(grid.cheap(series, MINE)),
            )
        )  # fmt: skip
    head = (
        "network", "scope", "keep-everything", "state", "state + planned activations, at least",
        "cut, at most", "cut, whole step",
    )  # fmt: skip
    return table(head, rows)


def _cut(found: Best | None) -> str:
    return _NONE if found is None else f"{100 * found.cut:.1f}%"
