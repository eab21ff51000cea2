"""Energy against RAM as in POET's figures: small pictures, a row a network and a column a scope.

x   the plan's peak in percent of keep-everything's, logarithmic, ample on the left, each panel to the
    next mark below its floor; grey: below the floor
y   extra energy in percent, logarithmic; 0.001% and less is drawn at the bottom; dashed: one percent

Invariant: a line joins only plans of one method; where a method has no plan, it has no point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks import poet_experiments_baselines as baselines
from benchmarks.poet_experiments_grid import Grid
from benchmarks.poet_experiments_methods import POETS_OPTIMUM
from benchmarks.poet_experiments_ours import GIVEN_ORDER, OURS, PAGE_ONLY, REMAT_ONLY
from benchmarks.poet_experiments_points import Scope, Series

COLOURS = {
    baselines.SQRT: "#c0504d",
    baselines.GRIEWANK: "#8c564b",
    baselines.BLOCKS: "#e377c2",
    baselines.PARTITIONER: "#e69f00",
    baselines.PAGE_EVERYTHING: "#9467bd",
    baselines.CAPUCHIN: "#2ca02c",
    POETS_OPTIMUM: "#222222",
    REMAT_ONLY: "#9ecae1",
    PAGE_ONLY: "#6baed6",
    GIVEN_ORDER: "#4292c6",
    OURS: "#08519c",
}
_ACROSS, _WIDTH, _HEIGHT, _HEAD = 3, 300, 190, 70
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 28
_LEAST_ENERGY, _MOST_ENERGY = 1e-3, 300.0
_SHARES = (100, 50, 20, 10, 5, 2, 1)
_LEVELS = ((1e-3, "0"), (1e-2, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10"), (100, "100"))
_SCOPES = (Scope.ACTIVATIONS, Scope.SGD, Scope.ADAM)


def device_picture(grid: Grid, device: str) -> str:
    """Every traced network on a device."""
    networks = dict.fromkeys(one.network for one in grid.series if one.device == device)
    traced = [
        Series(network=network, scope=scope, device=device)
        for network in networks
        for scope in _SCOPES
        if any(
            Series(network=network, scope=other, device=device) in grid.facts for other in _SCOPES
        )
    ]
    return _picture(grid, f"{device}: extra energy against RAM", traced)


def published_picture(grid: Grid) -> str:
    """POET's own lists of layers."""
    lists = [one for one in grid.series if one.scope is Scope.PUBLISHED]
    return _picture(grid, "POET's own lists of layers: extra energy against RAM", lists)


def _picture(grid: Grid, title: str, panels: Sequence[Series]) -> str:
    rows = max(1, math.ceil(len(panels) / _ACROSS))
    width, height = _ACROSS * _WIDTH, _HEAD + rows * _HEIGHT
    view = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="18" font-size="14" fill="#222">{escape(title)}</text>',
        *_legend(grid, panels, width),
    ]
    for number, series in enumerate(panels):
        if series not in grid.facts:
            continue
        down, across = divmod(number, _ACROSS)
        place = f"translate({across * _WIDTH},{_HEAD + down * _HEIGHT})"
        parts += [f'<g transform="{place}">', *_panel(grid, series), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend(grid: Grid, panels: Sequence[Series], width: int) -> Iterator[str]:
    x, y = 12, 38
    for name, colour in COLOURS.items():
        if not any(grid.plans(series, name) for series in panels):
            continue
        wide = round(30 + 5.4 * len(name))
        if x + wide > width:
            x, y = 12, y + 16
        yield (
            f'<rect x="{x}" y="{y - 8}" width="12" height="8" fill="{colour}"/>'
            f'<text x="{x + 16}" y="{y}" fill="#222">{escape(name)}</text>'
        )
        x += wide


def _panel(grid: Grid, series: Series) -> Iterator[str]:
    facts = grid.facts[series]
    floor_percent = 100 * facts.floor_bytes / facts.keep_bytes
    across = _Across(next((s for s in _SHARES if s < 0.9 * floor_percent), _SHARES[-1]))
    scope = "" if series.scope is Scope.PUBLISHED else f", {series.scope}"
    yield from _axes(f"{series.network}{scope}", floor_percent, across)
    for method, colour in COLOURS.items():
        pairs = [
            (across.x(100 * plan.peak_bytes / facts.keep_bytes), _y(grid.extra_energy(plan)))
            for plan in grid.plans(series, method)
            if plan.peak_bytes is not None
        ]
        yield from _curve(sorted(pairs), colour, thick=method == OURS)


@dataclass(frozen=True, slots=True)
class _Across:
    """A panel's axis of RAM, from keep-everything's peak to `least_percent` of it."""

    least_percent: float

    def x(self, ram_percent: float) -> float:
        held = min(max(ram_percent, self.least_percent), 100.0)
        share = math.log(100.0 / held) / math.log(100.0 / self.least_percent)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _axes(name: str, floor_percent: float, across: _Across) -> Iterator[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    x = across.x(floor_percent)
    yield f'<text x="{_LEFT}" y="16" font-size="12" fill="#222">{escape(name)}</text>'
    yield (
        f'<rect x="{x:.1f}" y="{_TOP}" width="{max(0.0, right - x):.1f}" '
        f'height="{bottom - _TOP}" fill="#eeeeee"/>'
    )
    for level, label in _LEVELS:
        y = _y(level)
        dashes = ' stroke-dasharray="3 2" stroke="#888"' if level == 1 else ' stroke="#dddddd"'
        yield (
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"{dashes}/>'
            f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#555">{label}%</text>'
        )
    for share in _SHARES:
        if share >= across.least_percent:
            yield (
                f'<text x="{across.x(share):.1f}" y="{bottom + 13}" text-anchor="middle" '
                f'fill="#555">{share}%</text>'
            )


def _y(extra_percent: float) -> float:
    held = min(max(extra_percent, _LEAST_ENERGY), _MOST_ENERGY)
    share = math.log(held / _LEAST_ENERGY) / math.log(_MOST_ENERGY / _LEAST_ENERGY)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _curve(places: Sequence[tuple[float, float]], colour: str, *, thick: bool) -> Iterator[str]:
    """Points joined from ample to tight."""
    if not places:
        return
    path = "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
    wide, radius = (2, 2.4) if thick else (1, 1.5)
    yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{wide}"/>'
    for x, y in dict.fromkeys((round(x, 1), round(y, 1)) for x, y in places):
        yield f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{colour}"/>'
