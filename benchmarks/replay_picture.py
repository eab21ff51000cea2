"""Time a step against peak memory, one panel a model, drawn from the rows of `benchmarks.replay`.

x   MiB of the whole process: a method's measured peak, ours' cap
y   seconds a step, medians; hollow and dashed: ours in another run, of `benchmarks.caps`
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.replay_methods import METHODS
from benchmarks.replay_models import SUBJECTS
from benchmarks.replay_report import Row

_PANEL_WIDTH, _PANEL_HEIGHT = 330, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 28, 34
_HEAD = 76
_MIB = 2**20
_MARKS = 6
_TITLE = "Seconds a step against peak memory of the process (MiB)"

OURS = "ours, under the kernel's cap"
_OURS_COLOUR = "#1f77b4"
_COLOURS = dict(
    zip(
        METHODS,
        ("#222222", "#c0504d", "#9467bd", "#e69f00", "#17becf", "#2ca02c", "#e377c2"),
        strict=True,
    )
)

Point = tuple[float, float]


Capped = Mapping[str, Sequence[tuple[int, float]]]


def picture(rows: Sequence[Row], capped: Capped | None = None) -> str:
    """The SVG text. `capped`: for a model caps in bytes, and ours' seconds under them."""
    models = [model for model in SUBJECTS if any(row.model == model for row in rows)]
    width = max(2, len(models)) * _PANEL_WIDTH
    height = _HEAD + _PANEL_HEIGHT
    view = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="10" role="img"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}>',
        f"<title>{escape(_TITLE)}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="12" y="18" font-size="14" fill="#222">{escape(_TITLE)}</text>',
        *_legend(width),
    ]
    for number, model in enumerate(models):
        of_model = [row for row in rows if row.model == model]
        parts += [
            f'<g transform="translate({number * _PANEL_WIDTH},{_HEAD})">',
            *_Panel(of_model, (capped or {}).get(model, ())).parts(),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def ours_points(rows: Sequence[Row]) -> list[Point]:
    """Each cap in MiB with the median of the seconds that were measured under it."""
    seconds: dict[int, list[float]] = {}
    for row in rows:
        if row.ours is not None:
            seconds.setdefault(row.ours.cap_bytes, []).append(row.ours.seconds)
    return [(cap / _MIB, statistics.median(found)) for cap, found in sorted(seconds.items())]


class _Panel:
    """One model: its axes begin at 0 and hold every point."""

    def __init__(self, rows: Sequence[Row], capped: Sequence[tuple[int, float]]) -> None:
        self._title = rows[0].title
        self._rows, self._ours = rows, ours_points(rows)
        small = any(row.small for row in rows)
        self._capped = [] if small else [(cap / _MIB, seconds) for cap, seconds in capped]
        points = [(row.peak_bytes / _MIB, row.seconds) for row in rows]
        points += [*self._ours, *self._capped]
        self._most_mib = 1.08 * max(x for x, _ in points)
        self._most_seconds = 1.15 * max(y for _, y in points)

    def parts(self) -> list[str]:
        """Axes, ours as a line, the methods as points."""
        return [
            *self._axes(),
            *self._line(self._capped, 'stroke-dasharray="4 3"', fill="white"),
            *self._line(self._ours, 'stroke-width="2"', fill=_OURS_COLOUR),
            *self._points(),
        ]

    def _x(self, mib: float) -> float:
        return _LEFT + mib / self._most_mib * (_PANEL_WIDTH - _LEFT - _RIGHT)

    def _y(self, seconds: float) -> float:
        share = seconds / self._most_seconds
        return _PANEL_HEIGHT - _BOTTOM - share * (_PANEL_HEIGHT - _TOP - _BOTTOM)

    def _axes(self) -> list[str]:
        bottom, right = _PANEL_HEIGHT - _BOTTOM, _PANEL_WIDTH - _RIGHT
        parts = [
            f'<text x="{_LEFT}" y="16" font-size="12" fill="#222">{escape(self._title)}</text>'
        ]
        for level in _marks(self._most_seconds):
            y = self._y(level)
            parts.append(
                f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5e5"/>'
                f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end" fill="#555">'
                f"{level:g} s</text>"
            )
        parts += [
            f'<text x="{self._x(level):.1f}" y="{bottom + 14}" text-anchor="middle" '
            f'fill="#555">{level:g}</text>'
            for level in _marks(self._most_mib)
        ]
        return parts

    def _line(self, points: Sequence[Point], style: str, *, fill: str) -> list[str]:
        places = [(self._x(mib), self._y(seconds)) for mib, seconds in points]
        path = "L".join(f"{x:.1f},{y:.1f}" for x, y in places)
        dots = [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{fill}" stroke="{_OURS_COLOUR}"/>'
            for x, y in places
        ]
        line = f'<path d="M{path}" fill="none" stroke="{_OURS_COLOUR}" {style}/>'
        return [line, *dots] if places else []

    def _points(self) -> list[str]:
        return [
            f'<circle cx="{self._x(row.peak_bytes / _MIB):.1f}" cy="{self._y(row.seconds):.1f}" '
            f'r="4" fill="{_COLOURS[row.method]}"><title>{escape(METHODS[row.method].title)}</title></circle>'
            for row in self._rows
        ]


def _marks(most: float) -> list[float]:
    """Round numbers from 0 up to `most`, at most a few."""
    scale = 10.0 ** (math.floor(math.log10(most)) - 1)
    step = next(
        scale * factor for factor in (1, 2, 5, 10, 20, 50) if most / factor / scale <= _MARKS
    )
    return [round(step * number, 6) for number in range(int(most / step) + 1)]


def _legend(width: int) -> list[str]:
    parts, x, y = [], 12, 36
    titles = [(METHODS[method].title, colour) for method, colour in _COLOURS.items()]
    for name, colour in [(OURS, _OURS_COLOUR), *titles]:
        wide = 30 + 5.6 * len(name)
        if x + wide > width:
            x, y = 12, y + 16
        parts.append(
            f'<rect x="{x}" y="{y - 8}" width="12" height="8" fill="{colour}"/>'
            f'<text x="{x + 16}" y="{y}" fill="#222">{escape(name)}</text>'
        )
        x += int(wide)
    return parts
