"""Overhead against the RAM budget, one small picture an instance, drawn from results/planner.json.

x   RAM in percent of keep-everything's peak, ample on the left
y   overhead in percent, logarithmic; 0 is drawn at the bottom
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.planner_points import PLANNERS

_ACROSS, _PANEL_WIDTH, _PANEL_HEIGHT = 3, 300, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 30
_HEAD = 66
_LEAST_PERCENT, _MOST_PERCENT = 1e-3, 100.0

OURS, BOUND, PROTOTYPE = "this planner (median)", "its lower bound", "prototype, best of many runs"
_COLOURS = {
    OURS: "#1f77b4",
    BOUND: "#9ecae1",
    PROTOTYPE: "#222222",
    "checkpointing": "#c0504d",
    "partitioner": "#e69f00",
    "greedy eviction": "#2ca02c",
    "page everything": "#9467bd",
    "Checkmate MILP": "#8c564b",
    "Moccasin": "#e377c2",
    "FastSA": "#17becf",
}

Pair = tuple[float, float | None]


def picture(found: Mapping[str, Any]) -> str:
    """The SVG text."""
    names = list(dict.fromkeys(point["instance"] for point in found["points"]))
    panels = [(name, _instance_panel(name, found)) for name in names]
    panels += [(f"frontier: {one['job']['instance']}", _frontier(one)) for one in found["frontier"]]
    rows = max(1, math.ceil(len(panels) / _ACROSS))
    width, height = _ACROSS * _PANEL_WIDTH, _HEAD + rows * _PANEL_HEIGHT
    title = (
        "Overhead (%, logarithmic) against RAM (% of keep-everything's peak), "
        f"{found['key']['seconds']:g} s a point"
    )
    view = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="18" font-size="14" fill="#222">{escape(title)}</text>',
        *_legend(),
    ]
    for number, (name, drawn) in enumerate(panels):
        down, across = divmod(number, _ACROSS)
        place = f"translate({across * _PANEL_WIDTH},{_HEAD + down * _PANEL_HEIGHT})"
        parts += [f'<g transform="{place}">', *_axes(name), *drawn, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _legend() -> list[str]:
    parts, x, y = [], 12, 36
    for name, colour in _COLOURS.items():
        wide = 34 + 5.6 * len(name)
        if x + wide > _ACROSS * _PANEL_WIDTH:
            x, y = 12, y + 16
        if name == PROTOTYPE:
            sign = _ring(x + 6, y - 4, colour)
        elif name in PLANNERS:
            sign = _cross(x + 6, y - 4, colour)
        else:
            sign = f'<rect x="{x}" y="{y - 8}" width="12" height="8" fill="{colour}"/>'
        parts.append(f'{sign}<text x="{x + 16}" y="{y}" fill="#222">{escape(name)}</text>')
        x += int(wide)
    return parts


def _instance_panel(name: str, found: Mapping[str, Any]) -> list[str]:
    points = [point for point in found["points"] if point["instance"] == name]
    lines: dict[str, list[Pair]] = {
        BOUND: [(_x_of(point), point["bound_percent"]) for point in points],
    }
    for record in found["alternatives"]:
        if record["job"]["instance"] == name:
            lines[record["job"]["alternative"]] = [
                (row["ram_percent"], row["overhead_percent"]) for row in record["rows"]
            ]
    lines[OURS] = [(_x_of(point), point["median"]) for point in points]
    parts = _curves(lines)
    for point in points:
        x = _x(_x_of(point))
        parts.append(_ring(x, _y(point["figure"]), _COLOURS[PROTOTYPE]))
        for told in point["published"]:
            parts.append(_cross(x, _y(told["overhead"]), _COLOURS[told["planner"]]))
    return parts


def _frontier(record: Mapping[str, Any]) -> list[str]:
    rows = record["rows"]
    return _curves(
        {
            BOUND: [(row["ram_percent"], row["bound_percent"]) for row in rows],
            OURS: [(row["ram_percent"], row["overhead_percent"]) for row in rows],
        }
    )


def _curves(lines: Mapping[str, Sequence[Pair]]) -> list[str]:
    parts: list[str] = []
    for label, pairs in lines.items():
        parts += _curve(pairs, _COLOURS[label], thick=label == OURS)
    return parts


def _x_of(point: Mapping[str, Any]) -> float:
    share = point["ram_percent"]
    return float(point["budget"]) if share is None else float(share)


def _x(ram_percent: float) -> float:
    return _LEFT + (100 - ram_percent) / 100 * (_PANEL_WIDTH - _LEFT - _RIGHT)


def _y(overhead_percent: float) -> float:
    held = min(max(overhead_percent, _LEAST_PERCENT), _MOST_PERCENT)
    share = math.log10(held / _LEAST_PERCENT) / math.log10(_MOST_PERCENT / _LEAST_PERCENT)
    return _PANEL_HEIGHT - _BOTTOM - share * (_PANEL_HEIGHT - _TOP - _BOTTOM)


def _axes(name: str) -> list[str]:
    bottom, right = _PANEL_HEIGHT - _BOTTOM, _PANEL_WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="16" font-size="12" fill="#222">{escape(name)}</text>']
    for level, label in (
        (1e-3, "0"),
        (1e-2, "0.01"),
        (0.1, "0.1"),
        (1, "1"),
        (10, "10"),
        (100, "100"),
    ):
        y = _y(level)
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>'
            f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#555">{label}%</text>'
        )
    parts += [
        f'<text x="{_x(share):.1f}" y="{bottom + 14}" text-anchor="middle" '
        f'fill="#555">{share}%</text>'
        for share in (100, 80, 60, 40, 20, 0)
    ]
    return parts


def _curve(pairs: Sequence[Pair], colour: str, *, thick: bool) -> list[str]:
    """Points joined where neighbours have a value; ample RAM first."""
    parts, path, pen = [], "", "M"
    for ram_percent, overhead in sorted(pairs, key=lambda pair: -pair[0]):
        if overhead is None:
            pen = "M"
            continue
        x, y = _x(ram_percent), _y(overhead)
        path += f"{pen}{x:.1f},{y:.1f}"
        pen = "L"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.4 if thick else 1.6}" fill="{colour}"/>'
        )
    line = f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{2 if thick else 1}"/>'
    return [line, *parts] if path else []


def _ring(x: float, y: float, colour: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="none" stroke="{colour}" '
        'stroke-width="0.8"/>'
    )


def _cross(x: float, y: float, colour: str) -> str:
    return (
        f'<path d="M{x - 4:.1f},{y - 4:.1f}l8,8m0,-8l-8,8" fill="none" stroke="{colour}" '
        'stroke-width="1.6"/>'
    )
