"""A frontier as an SVG that needs nothing else.

energy │ ●                 one panel a cost, overhead over keep-everything in percent;
       │ └───●             a plan for less RAM is a plan for more: steps;
       │     └────●────●   whiskers go down to the bound where one is proven; a hollow point is
       └──────────────     beaten by another in RAM, energy and time
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from poet_cli.frontier_report import base_of, energy_overhead, over, time_overhead
from poet_cli.output import safe
from poet_core.plan import Objective
from poet_core.units import format_bytes
from poet_solvers.frontier import Frontier

_WIDTH, _PANEL = 860, 210
_LEFT, _RIGHT, _TOP, _BOTTOM, _BETWEEN = 84, 24, 46, 52, 34
_ENERGY, _TIME = "#4078c0", "#b5651d"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A point of a panel: RAM, overhead in percent, the bound's, whether another beats it."""

    ram_bytes: int
    value: float
    bound: float | None
    beaten: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """One cost over RAM. `x` maps bytes to the picture."""

    label: str
    colour: str
    top: float
    marks: Sequence[_Mark]
    x: Callable[[float], float]


def frontier_picture(found: Frontier, name: str) -> str:
    """The SVG text: energy above, time below, over the same RAM axis."""
    title = f"RAM against energy and time: {safe(name or 'a training step', 60)}"
    if found.problem.device_name:
        title += f" on {safe(found.problem.device_name, 40)}"
    low, high = _range(found)
    height = _TOP + 2 * _PANEL + _BETWEEN + _BOTTOM

    def x(ram_bytes: float) -> float:
        return _LEFT + (ram_bytes - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    panels = [
        _Panel(label=label, colour=colour, top=top, marks=_marks(found, objective), x=x)
        for label, colour, objective, top in (
            ("energy", _ENERGY, Objective.ENERGY, float(_TOP)),
            ("time", _TIME, Objective.TIME, float(_TOP + _PANEL + _BETWEEN)),
        )
    ]
    view = f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12" role="img"'
    caption = "RAM →  (hollow: beaten by another plan; whiskers: down to the bound)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="#222">{escape(title)}</text>',
        *_vertical(x(found.floor.floor_bytes), "floor", height, "start"),
        *_vertical(x(found.keep.peak_bytes), "everything kept", height, "end"),
        *(part for panel in panels for part in _panel(panel)),
        *_ram_axis(low, high, x, height),
        f'<text x="{_LEFT}" y="{height - 8}" fill="#555">{caption}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _range(found: Frontier) -> tuple[int, int]:
    """The RAM axis: every budget, the floor, and everything kept where it is not far away."""
    shown = [point.ram_bytes for point in found.points] + [found.floor.floor_bytes]
    if found.keep.peak_bytes <= 2 * max(shown):
        shown.append(found.keep.peak_bytes)
    low, high = min(shown), max(shown)
    margin = max(1, (high - low) // 40)
    return max(0, low - margin), high + margin


def _marks(found: Frontier, objective: Objective) -> list[_Mark]:
    base, beaten = base_of(found, objective), found.dominated
    marks = []
    for point in reversed(found.points):
        plan = point.plan
        if plan is None:
            continue
        energy = objective is Objective.ENERGY
        bound = plan.bound.value if plan.bound and plan.objective is objective else None
        marks.append(
            _Mark(
                ram_bytes=point.ram_bytes,
                value=100
                * (energy_overhead(found, plan) if energy else time_overhead(found, plan)),
                bound=None if bound is None else 100 * over(bound, base),
                beaten=point.ram_bytes in beaten,
            )
        )
    return marks


def _panel(panel: _Panel) -> list[str]:
    """Axis, steps from tight to loose, whiskers, points."""
    most = max([mark.value for mark in panel.marks], default=0.0) * 1.08 or 1.0

    def y(value: float) -> float:
        return panel.top + _PANEL * (1 - max(0.0, value) / most)

    parts = _cost_axis(panel, most, y)
    path, right = "", _WIDTH - _RIGHT
    for mark in panel.marks:
        at, level = panel.x(mark.ram_bytes), y(mark.value)
        if not mark.beaten:
            path += f"M{at:.1f},{level:.1f}" if not path else f"H{at:.1f}V{level:.1f}"
        if mark.bound is not None:
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{level:.1f}" y2="{y(mark.bound):.1f}" '
                f'stroke="{panel.colour}" stroke-opacity="0.45" stroke-width="3"/>'
            )
    if path:
        parts.append(f'<path d="{path}H{right}" fill="none" stroke="{panel.colour}"/>')
    for mark in panel.marks:
        fill = "white" if mark.beaten else panel.colour
        parts.append(
            f'<circle cx="{panel.x(mark.ram_bytes):.1f}" cy="{y(mark.value):.1f}" r="3.5" '
            f'fill="{fill}" stroke="{panel.colour}"/>'
        )
    return parts


def _cost_axis(panel: _Panel, most: float, y: Callable[[float], float]) -> list[str]:
    step = _round_step(most / 4)
    label = f"{panel.label}, on top of everything kept"
    parts = [f'<text x="{_LEFT}" y="{panel.top - 6}" fill="{panel.colour}">{label}</text>']
    for count in range(int(most / step) + 1):
        level = y(count * step)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{level:.1f}" y2="{level:.1f}" '
            f'stroke="#ddd"/><text x="{_LEFT - 6}" y="{level + 4:.1f}" text-anchor="end" '
            f'fill="#555">{count * step:.3g}%</text>'
        )
    return parts


def _ram_axis(low: int, high: int, x: Callable[[float], float], height: int) -> list[str]:
    unit = next(size for size in (2**30, 2**20, 2**10, 1) if high >= 2 * size or size == 1)
    step = _round_step((high - low) / unit / 6) * unit
    parts = []
    for count in range(math.ceil(low / step), int(high / step) + 1):
        at = x(count * step)
        parts.append(
            f'<text x="{at:.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle" fill="#555">'
            f"{format_bytes(count * step)}</text>"
        )
    return parts


def _vertical(at: float, label: str, height: int, anchor: str) -> list[str]:
    if not _LEFT <= at <= _WIDTH - _RIGHT:
        return []
    beside = at + 4 if anchor == "start" else at - 4
    foot = height - _BOTTOM
    where = f'x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 10}" y2="{foot}"'
    return [
        f'<line {where} stroke="#6a737d" stroke-dasharray="2 4"/>',
        f'<text x="{beside:.1f}" y="{foot - 6}" text-anchor="{anchor}" fill="#6a737d">{label}</text>',
    ]


def _round_step(wanted: float) -> float:
    """1, 2 or 5 times a power of ten, at least `wanted`."""
    power = 10.0 ** math.floor(math.log10(max(wanted, 1e-12)))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= wanted * 0.999)
