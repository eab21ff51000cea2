"""Memory over program order as an SVG, drawn from a result file without any plotting package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from poet_core.units import format_bytes

_WIDTH, _HEIGHT = 860, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 16, 44, 46
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Bytes in use at each instruction, spread over the width of the picture."""

    label: str
    colour: str
    memory_bytes: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A horizontal line with a label, such as the budget."""

    label: str
    colour: str
    level_bytes: int


def memory_picture(title: str, series: Sequence[Series], lines: Sequence[Line]) -> str:
    """The SVG text. Each series is stretched to the full width: a step is a step."""
    levels = [max(item.memory_bytes) for item in series] + [line.level_bytes for line in lines]
    most = max(levels) * 1.05
    view = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12" role="img"'
    caption = "one training step, in program order (forward, backward and updates) →"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="18" font-size="14" fill="#222">{escape(title)}</text>',
        *_axis(most),
        *(_area(item, most) for item in series),
        *(_level(line, most) for line in lines),
        *_legend(series),
        f'<text x="{_LEFT}" y="{_HEIGHT - 10}" fill="#555">{caption}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _y(level_bytes: float, most: float) -> float:
    return _HEIGHT - _BOTTOM - level_bytes / most * (_HEIGHT - _TOP - _BOTTOM)


def _axis(most: float) -> list[str]:
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if most / _MIB / s <= 7)
    marks = []
    for level in range(0, int(most / _MIB) + 1, step):
        y = _y(level * _MIB, most)
        marks.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
            'stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">'
            f"{level} MiB</text>"
        )
    return marks


def _area(series: Series, most: float) -> str:
    width = (_WIDTH - _LEFT - _RIGHT) / len(series.memory_bytes)
    corners = [f"M{_LEFT},{_y(0, most):.1f}"]
    for position, level in enumerate(series.memory_bytes):
        left, right = _LEFT + position * width, _LEFT + (position + 1) * width
        corners.append(f"L{left:.1f},{_y(level, most):.1f}L{right:.1f},{_y(level, most):.1f}")
    corners.append(f"L{_WIDTH - _RIGHT},{_y(0, most):.1f}Z")
    return (
        f'<path d="{"".join(corners)}" fill="{series.colour}" fill-opacity="0.35" '
        f'stroke="{series.colour}"/>'
    )


def _level(line: Line, most: float) -> str:
    y = _y(line.level_bytes, most)
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
        f'stroke="{line.colour}" stroke-dasharray="6 4" stroke-width="1.5"/>'
        f'<text x="{_WIDTH - _RIGHT - 4}" y="{y - 5:.1f}" text-anchor="end" '
        f'fill="{line.colour}">{escape(line.label)} {format_bytes(line.level_bytes)}</text>'
    )


def _legend(series: Sequence[Series]) -> list[str]:
    parts, x = [], _LEFT
    for item in series:
        parts.append(
            f'<rect x="{x}" y="26" width="12" height="10" fill="{item.colour}" '
            f'fill-opacity="0.5" stroke="{item.colour}"/>'
            f'<text x="{x + 17}" y="35" fill="#222">{escape(item.label)}</text>'
        )
        x += 40 + 7 * len(item.label)
    return parts
