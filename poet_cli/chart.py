"""Memory over program order in the terminal: one column a group of instructions, its highest point.

 4.00 MiB ┤┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ budget
          │         ▼ peak 3.80 MiB
          │      ▂▆▇█▅
 2.00 MiB ┤   ▃▇███████▂
          │▂▅████████████▄▃▃▂
          └┬────────┬────────┬────
           forward  backward update
    flash    ▾▾       ▴▴

Invariant: no group hides its peak, every line is at most as wide as asked, and nothing in it comes
from a document. A line is a sequence of (text, role), for colours.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from poet_core.units import format_bytes

Line = list[tuple[str, str]]
"""Parts of a line, each with its role: a phase's name, label, axis, budget, peak or mark."""

_LABEL_WIDTH = 9
_LEAST_COLUMNS = 10
_FLAT = 2  # a budget of more than so many times the peak would press the curve flat: it is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """What a chart is drawn with. `steps`: from nothing to a full cell."""

    steps: str
    side: str
    tick: str
    corner: str
    floor: str
    down: str
    budget: str
    peak: str
    page_in: str
    page_out: str
    both: str
    again: str


UNICODE = Glyphs(
    steps=" ▁▂▃▄▅▆▇█", side="│", tick="┤", corner="└", floor="─", down="┬", budget="┄", peak="▼",
    page_in="▴", page_out="▾", both="↕", again="↻",
)  # fmt: skip
ASCII = Glyphs(
    steps=" .:#", side="|", tick="+", corner="+", floor="-", down="+", budget="-", peak="v",
    page_in="i", page_out="o", both="x", again="r",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What is drawn: the memory after each instruction, the instruction of the peak (-1: before the
    first), where each phase begins, in order, and instructions that page or run an op again."""

    memory_bytes: Sequence[int]
    budget_bytes: int
    peak: int = 0
    phases: Sequence[tuple[str, int]] = ()
    paged_in: Sequence[int] = ()
    paged_out: Sequence[int] = ()
    again: Sequence[int] = ()
    peak_bytes: int = field(default=0)


def glyphs_for(encoding: str | None) -> Glyphs:
    """Those that a terminal of this encoding can show."""
    try:
        "".join((UNICODE.steps, UNICODE.side, UNICODE.budget, UNICODE.peak)).encode(
            encoding or "ascii"
        )
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UNICODE


def memory_chart(
    timeline: Timeline, *, width: int, height: int = 10, glyphs: Glyphs = UNICODE
) -> list[Line]:
    """The lines of the chart, `width` columns at most; `height` of them are of bars."""
    grid = _Grid(len(timeline.memory_bytes), max(_LEAST_COLUMNS, width - _LABEL_WIDTH - 2))
    columns = grid.highest(timeline.memory_bytes)
    highest = max(*columns, 1)
    has_line = highest <= timeline.budget_bytes <= _FLAT * highest
    top = timeline.budget_bytes if has_line else highest
    phases = [_phase_of(timeline.phases, grid.first_of(at)) for at in range(grid.columns)]
    lines: list[Line] = []
    if has_line:
        lines.append(_budget_line(timeline.budget_bytes, grid.columns, glyphs))
    elif timeline.budget_bytes > highest:
        text = f"{'':>{_LABEL_WIDTH}} budget {format_bytes(timeline.budget_bytes)}, above"
        lines.append([(text[: _LABEL_WIDTH + 2 + grid.columns], "budget")])
    steps = len(glyphs.steps) - 1
    cells = [-(-value * height * steps // top) for value in columns]
    peak_column = grid.column_of(max(0, timeline.peak))
    peak_row = -(-cells[peak_column] // steps)  # the row above the bar
    label = _peak_label(timeline, peak_column, grid.columns, glyphs)
    if peak_row >= height:
        lines.append([(f"{'':>{_LABEL_WIDTH}} {glyphs.side}", "label"), (label, "peak")])
    for row in reversed(range(height)):
        marks = [glyphs.steps[max(0, min(steps, cell - row * steps))] for cell in cells]
        ticked = row in {height // 2 - 1} or (row == height - 1 and not has_line)
        text = format_bytes(top * (row + 1) / height) if ticked else ""
        line: Line = [(f"{text:>{_LABEL_WIDTH}} {glyphs.tick if text else glyphs.side}", "label")]
        line += [(label, "peak")] if row == peak_row else _grouped(marks, phases)
        lines.append(line)
    return lines + _below(timeline, grid, glyphs)


def _budget_line(budget_bytes: int, columns: int, glyphs: Glyphs) -> Line:
    name = " budget"
    return [
        (f"{format_bytes(budget_bytes):>{_LABEL_WIDTH}} {glyphs.tick}", "label"),
        (glyphs.budget * max(0, columns - len(name)) + name[-columns:], "budget"),
    ]


def _peak_label(timeline: Timeline, column: int, columns: int, glyphs: Glyphs) -> str:
    """The marker at its column with its figure to the right, or to the left where room is there."""
    size = timeline.peak_bytes or max(timeline.memory_bytes, default=0)
    text = f"peak {format_bytes(size)}"
    if column + 2 + len(text) <= columns:
        return f"{'':{column}}{glyphs.peak} {text}"
    if len(text) + 1 <= column:
        return f"{text:>{column - 1}} {glyphs.peak}"
    return f"{'':{column}}{glyphs.peak}"


def _below(timeline: Timeline, grid: _Grid, glyphs: Glyphs) -> list[Line]:
    """The axis with the phases, and a row each for flash and for ops that run again."""
    floor, names = [glyphs.floor] * grid.columns, [" "] * grid.columns
    begins = [(name, grid.column_of(position)) for name, position in timeline.phases]
    for (name, first), (_, after) in itertools.pairwise([*begins, ("", grid.columns + 1)]):
        floor[first] = glyphs.down
        if len(name) < after - first:
            names[first : first + len(name)] = name
    margin = " " * (_LABEL_WIDTH + 1)
    lines: list[Line] = [[(margin + glyphs.corner + "".join(floor), "axis")]]
    if begins:
        lines.append([(f"{margin} {''.join(names).rstrip()}", "axis")])
    flash = {grid.column_of(at): glyphs.page_out for at in timeline.paged_out}
    for column in {grid.column_of(at) for at in timeline.paged_in}:
        flash[column] = glyphs.both if column in flash else glyphs.page_in
    again = {grid.column_of(at): glyphs.again for at in timeline.again}
    for name, marks in (("flash", flash), ("again", again)):
        if marks:
            lines.append(_marks_line(name, marks, grid.columns))
    return lines


def _marks_line(name: str, marks: Mapping[int, str], columns: int) -> Line:
    row = "".join(marks.get(column, " ") for column in range(columns))
    return [(f"{name:>{_LABEL_WIDTH}}  ", "label"), (row.rstrip(), "mark")]


def _phase_of(phases: Sequence[tuple[str, int]], position: int) -> str:
    return next((name for name, first in reversed(phases) if first <= position), "label")


def _grouped(marks: Sequence[str], roles: Sequence[str]) -> Line:
    """Neighbours of one role as one part."""
    pairs = zip(marks, roles, strict=True)
    return [
        ("".join(mark for mark, _ in part), role)
        for role, part in itertools.groupby(pairs, key=lambda pair: pair[1])
    ]


class _Grid:
    """Which column an instruction is drawn in: a column holds several, or an instruction several
    columns."""

    def __init__(self, count: int, room: int) -> None:
        self._count, self.columns = max(1, count), room

    def column_of(self, position: int) -> int:
        """The first column of an instruction."""
        if self._count <= self.columns:
            return -(-position * self.columns // self._count)
        return ((position + 1) * self.columns - 1) // self._count

    def first_of(self, column: int) -> int:
        """The first instruction that a column stands for."""
        return column * self._count // self.columns

    def highest(self, values: Sequence[int]) -> list[int]:
        """A value a column, the highest of what it stands for."""
        if len(values) > self.columns:
            return downsampled(values, self.columns)
        return [values[self.first_of(column)] if values else 0 for column in range(self.columns)]


def downsampled(values: Sequence[int], most: int) -> list[int]:
    """At most `most` values, each the highest of its group, so that no peak is lost."""
    if len(values) <= most:
        return list(values) or [0]
    edges = [index * len(values) // most for index in range(most + 1)]
    return [max(values[first:last]) for first, last in itertools.pairwise(edges)]
