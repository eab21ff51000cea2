"""The Markdown tables of POET's experiments. Cuts, energies and times are in percent of keep-everything."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from benchmarks.planner_tables import percent, table
from benchmarks.poet_experiments_grid import (
    ENERGY_RATIO,
    MINE,
    OTHERS,
    SCOPE_TITLES,
    Best,
    Grid,
)
from benchmarks.poet_experiments_methods import POETS_OPTIMUM
from benchmarks.poet_experiments_networks import IN_PARTS
from benchmarks.poet_experiments_ours import OURS
from benchmarks.poet_experiments_points import (
    HEADLINE_DEVICE,
    Facts,
    Result,
    Scope,
    Series,
)
from poet_core.units import format_bytes, format_seconds

_NONE = "\u2013"
_TRACED = (Scope.ACTIVATIONS, Scope.SGD, Scope.ADAM)
_TARGET_CUT = 0.80


# -- what was asked for -----------------------------------------------------------------------


def acceptance_table(grid: Grid) -> str:
    """Whether four fifths of the memory go at one percent more energy, or all that can go."""
    wanted = [
        one
        for one in grid.whole()
        if one.device == HEADLINE_DEVICE
        and (one.scope is Scope.ACTIVATIONS or (one.scope, one.network[:4]) == (Scope.ADAM, "bert"))
    ]
    rows = []
    for series in wanted:
        found = grid.cheap(series, MINE)
        facts = grid.facts[series]
        rows.append(
            (
                series.network, str(series.scope), format_bytes(facts.keep_bytes),
                _NONE if found is None else format_bytes(found.ram_bytes), _cut(found),
                _share(1 - facts.floor_bytes / facts.keep_bytes), verdict(grid, series),
                _cut(grid.cheap(series, OTHERS)), _cut_in_parts(grid, series),
            )
        )  # fmt: skip
    head = (
        "network",
        "scope",
        "keep-everything",
        "at 1% more energy",
        "cut",
        "cut at the floor",
        "80% or the floor",
        "cut, best other",
        "cut, large ops in parts",
    )
    return table(head, rows)


def _cut_in_parts(grid: Grid, series: Series) -> str:
    """Of the same keep-everything, where the network was planned so, too."""
    parts = replace(series, network=f"{series.network}{IN_PARTS}")
    found = grid.cheap(parts, MINE) if parts in grid.facts else None
    return _NONE if found is None else _share(1 - found.ram_bytes / grid.facts[series].keep_bytes)


def verdict(grid: Grid, series: Series) -> str:
    """In words: the target, the proven end of what is possible, or neither."""
    found, facts = grid.cheap(series, MINE), grid.facts[series]
    if found is None:
        return "not met: no plan"
    if found.cut >= _TARGET_CUT:
        return "met"
    if found.ram_bytes <= facts.floor_bytes:
        return "met: the floor"
    proven = grid.proven_bytes(series, ENERGY_RATIO)
    if found.ram_bytes <= proven * 1.02:
        return "met: less is proven impossible (within 2%)"
    over = 100 * (found.ram_bytes / facts.floor_bytes - 1)
    return f"not met: {over:.3g}% above the floor"


# -- cuts -------------------------------------------------------------------------------------


def cut_tables(grid: Grid, ask: Callable[[Series, tuple[str, ...]], Best | None]) -> str:
    """A table a scope; networks down, devices across; ours and the best of the others."""
    parts = []
    for scope in _TRACED:
        devices, rows = grid.devices(scope), []
        for network in grid.networks(scope):
            cells = []
            for device in devices:
                series = Series(network=network, scope=scope, device=device)
                cells.append(_beside(grid, series, ask))
            rows.append((network, *cells))
        if rows:
            parts.append(f"### {SCOPE_TITLES[scope]}\n\n" + table(("network", *devices), rows))
    return "\n\n".join(parts)


def _beside(
    grid: Grid, series: Series, ask: Callable[[Series, tuple[str, ...]], Best | None]
) -> str:
    if series not in grid.facts:
        return ""
    other = ask(series, OTHERS)
    told = _NONE if other is None else f"{_cut(other)} {other.result.method}"
    return f"**{_cut(ask(series, MINE))}** ({told})"


def _cut(found: Best | None) -> str:
    return _NONE if found is None else _share(found.cut)


def _share(share: float) -> str:
    return f"{100 * share:.1f}%"


# -- the floor --------------------------------------------------------------------------------


def least_table(grid: Grid) -> str:
    """The least RAM that was reached at any price, against the floor."""
    rows = []
    for series in grid.series:
        if series.device != HEADLINE_DEVICE or series.scope is Scope.PUBLISHED:
            continue
        facts = grid.facts[series]
        mine, other = grid.best(series, MINE), grid.best(series, OTHERS)
        rows.append(
            (
                series.network, str(series.scope), format_bytes(facts.keep_bytes),
                format_bytes(facts.floor_bytes), facts.floor_op, _least(grid, mine),
                _least(grid, other) + ("" if other is None else f", {other.result.method}"),
                _NONE if facts.split_floor_bytes is None else format_bytes(facts.split_floor_bytes),
                facts.split_floor_op or _NONE,
            )
        )  # fmt: skip
    head = (
        "network", "scope", "keep-everything", "floor", "set by", "ours (extra energy)",
        "best other", "floor in parts", "set by",
    )  # fmt: skip
    return table(head, rows)


def _least(grid: Grid, found: Best | None) -> str:
    if found is None:
        return _NONE
    floor = grid.facts[found.result.series].floor_bytes
    where = "the floor" if found.ram_bytes <= floor else format_bytes(found.ram_bytes)
    return f"{where} (+{percent(max(0.0, grid.extra_energy(found.result)))}%)"


# -- can it train -----------------------------------------------------------------------------


def training_tables(grid: Grid) -> str:
    """For each device: every network with the RAM that the device has."""
    parts = []
    for device in grid.devices(*_TRACED):
        rows = []
        for network in grid.networks(*_TRACED):
            if not network.endswith(IN_PARTS):
                cells = [_trains(grid, network, scope, device) for scope in _TRACED]
                rows.append((network, *cells))
        ram = next(f.device_ram_bytes for s, f in grid.facts.items() if s.device == device)
        title = f"### {device}, {format_bytes(ram or 0)} of RAM\n\n"
        parts.append(
            title + table(("network", "activations only", "SGD with momentum", "Adam"), rows)
        )
    return "\n\n".join(parts)


def _trains(grid: Grid, network: str, scope: Scope, device: str) -> str:
    series = Series(network=network, scope=scope, device=device)
    found = grid.on_device(series)
    if found is None:
        return _NONE
    facts = grid.facts[series]
    if found.energy_joules is not None and found.step_seconds is not None:
        extra = percent(max(0.0, grid.extra_energy(found)))
        return f"yes: +{extra}% energy, {format_seconds(found.step_seconds)} a step"
    return _missing(facts, found)


def _missing(facts: Facts, found: Result) -> str:
    """What a device lacks, in a sentence."""
    ram = facts.device_ram_bytes or 0
    if facts.floor_bytes <= ram:
        return (
            f"no plan was found above the floor of {format_bytes(facts.floor_bytes)}: {found.said}"
        )
    said = (
        f"no: {facts.floor_op} alone takes {format_bytes(facts.floor_bytes)}, "
        f"{_times(facts.floor_bytes / ram)} the RAM"
    )
    if facts.split_floor_bytes is None or facts.split_floor_bytes >= facts.floor_bytes:
        return f"{said}; splitting ops as we can brings nothing"
    parts = format_bytes(facts.split_floor_bytes)
    if facts.split_floor_bytes <= ram:
        return f"{said}; with large ops in parts {parts}: it would fit"
    return f"{said}; with large ops in parts still {parts} ({facts.split_floor_op})"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.2g} times"


# -- POET's lists -----------------------------------------------------------------------------


def published_table(grid: Grid) -> str:
    """POET's own lists of layers: cuts at one percent more energy, and POET's optimum where known."""
    rows = []
    for series in grid.series:
        if series.scope is not Scope.PUBLISHED:
            continue
        facts = grid.facts[series]
        solved = grid.plans(series, POETS_OPTIMUM)
        equal = [_against_ours(grid, one) for one in solved]
        rows.append(
            (
                series.network, str(facts.ops), format_bytes(facts.keep_bytes),
                _cut(grid.cheap(series, MINE)), _cut(grid.cheap(series, OTHERS)),
                _share(1 - facts.floor_bytes / facts.keep_bytes),
                _NONE if not solved else f"{len(solved)}: ours differs by {_range(equal)}",
            )
        )  # fmt: skip
    head = (
        "list", "layers", "keep-everything", "cut, ours", "cut, best other", "cut at the floor",
        "POET's optimum solved at",
    )  # fmt: skip
    return table(head, rows)


def _against_ours(grid: Grid, result: Result) -> float:
    """Percent that ours costs more than POET's optimum."""
    ours = grid.at(result.series, result.label, OURS)
    if ours is None or ours.energy_joules is None or result.energy_joules is None:
        return float("nan")
    return 100 * (ours.energy_joules / result.energy_joules - 1)


def _range(values: Iterable[float]) -> str:
    known = sorted(values)
    low, high = (f"{value:+.2g}%" if abs(value) > 1e-6 else "0" for value in (known[0], known[-1]))
    return low if low == high else f"{low} to {high}"
