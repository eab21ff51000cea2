"""Figure 2: accuracy and predictive ratio against neural bits, drawn from results/projection.json.

x   T x d, logarithmic
y   P@1 of the test part over the trainer's (1 is the trainer's); rings are the paper's ratios
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.projection_recipes import PAPER_RATIOS

_WIDTH, _HEIGHT = 640, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 20, 54, 48
_LEAST_BITS, _MOST_BITS = 30.0, 2000.0
_COLOURS = ("#1f77b4", "#c0504d", "#2ca02c")
_TICKS = (40, 80, 160, 320, 640, 1280)
_TITLE = "Predictive ratio (P@1 over the trainer's) against neural bits T x d"


def picture(found: Mapping[str, Any]) -> str:
    """The SVG text; without a study of neural bits only the paper's points."""
    lines = {
        part.removeprefix("bits-"): _points(cells)
        for part, cells in found["parts"].items()
        if part.startswith("bits-")
    }
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" role="img"'
    lowest = _lowest([ratio for points in lines.values() for _, ratio, _ in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(_TITLE)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14" fill="#222">{escape(_TITLE)}</text>',
        *_axes(lowest),
    ]
    legend = []
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        parts += _curve(points, colour, lowest)
        legend.append((f"{name}, mean ± deviation", colour))
    for bits, ratio in PAPER_RATIOS.items():
        parts.append(
            f'<circle cx="{_x(bits):.1f}" cy="{_y(ratio, lowest):.1f}" r="5" fill="none" stroke="#222"/>'
        )
    legend.append(("paper, MNIST (rings)", "#222"))
    return "\n".join([*parts, *_legend(legend), "</svg>"]) + "\n"


def _points(cells: Sequence[Mapping[str, Any]]) -> list[tuple[float, float, float]]:
    """(neural bits, ratio, its deviation), narrowest first."""
    return sorted((float(c["neural_bits"][0]), float(c["ratio"][0]), float(c["ratio"][1])) for c in cells)  # fmt: skip


def _lowest(ratios: Sequence[float]) -> float:
    least = min([*ratios, *PAPER_RATIOS.values()])
    return max(0.0, math.floor(10 * least) / 10)


def _x(bits: float) -> float:
    share = math.log(bits / _LEAST_BITS) / math.log(_MOST_BITS / _LEAST_BITS)
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(ratio: float, lowest: float) -> float:
    share = (ratio - lowest) / (1 - lowest)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _axes(lowest: float) -> list[str]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    steps = round((1 - lowest) * 10)
    for step in range(steps + 1):
        ratio = lowest + step / 10
        y = _y(ratio, lowest)
        parts.append(
            f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{ratio:.1f}</text>'
        )
    parts += [
        f'<text x="{_x(bits):.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{bits}</text>'
        for bits in _TICKS
    ]
    parts.append(
        f'<text x="{(_LEFT + right) / 2:.0f}" y="{_HEIGHT - 10}" text-anchor="middle" fill="#555">'
        "neural bits</text>"
    )
    return parts


def _curve(points: Sequence[tuple[float, float, float]], colour: str, lowest: float) -> list[str]:
    path = "M" + "L".join(f"{_x(bits):.1f},{_y(ratio, lowest):.1f}" for bits, ratio, _ in points)
    parts = [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for bits, ratio, deviation in points:
        x = _x(bits)
        top, bottom = _y(ratio + deviation, lowest), _y(ratio - deviation, lowest)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}"/>'
            f'<circle cx="{x:.1f}" cy="{_y(ratio, lowest):.1f}" r="3" fill="{colour}"/>'
        )
    return parts


def _legend(items: Sequence[tuple[str, str]]) -> list[str]:
    parts, x = [], float(_LEFT)
    for name, colour in items:
        parts.append(
            f'<rect x="{x:.0f}" y="32" width="12" height="8" fill="{colour}"/>'
            f'<text x="{x + 17:.0f}" y="40" fill="#222">{escape(name)}</text>'
        )
        x += 36 + 6.2 * len(name)
    return parts
