"""Memory over program order in the terminal: one column a group of instructions, its highest point.

4.00 MiB ┤┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ budget
         │      ▂▇▇█▅
         │   ▃▇███████▂
         │▂▅████████████▄
         └────────────────────
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from poet_core.units import format_bytes

_EIGHTHS = " ▁▂▃▄▅▆▇█"
_BUDGET = "┄"
_LABEL_WIDTH = 10


def memory_chart(
    memory_bytes: Sequence[int], budget_bytes: int, *, width: int, height: int = 10
) -> list[str]:
    """The lines of the chart: at most `width` columns and `height` rows."""
    room = max(10, width - _LABEL_WIDTH - 2)
    columns = downsampled(memory_bytes, room)
    columns = [value for value in columns for _ in range(room // len(columns))]
    highest = max(*columns, 1)
    # A budget far above the peak would press the curve flat: it is then named, not drawn.
    top = budget_bytes if highest <= budget_bytes <= 2 * highest else highest
    cells = [value * height * 8 // top for value in columns]
    lines = []
    for row in reversed(range(height)):
        marks = "".join(_EIGHTHS[max(0, min(8, cell - row * 8))] for cell in cells)
        if row == height - 1 and top == budget_bytes:
            marks = marks.replace(" ", _BUDGET)
        label = format_bytes(top * (row + 1) / height) if row in {height - 1, height // 2} else ""
        lines.append(f"{label:>{_LABEL_WIDTH}} {'┤' if label else '│'}{marks}")
    lines.append(f"{'':>{_LABEL_WIDTH}} └{'─' * len(columns)}")
    return lines


def downsampled(values: Sequence[int], most: int) -> list[int]:
    """At most `most` values, each the highest of its group, so that no peak is lost."""
    if len(values) <= most:
        return list(values) or [0]
    edges = [index * len(values) // most for index in range(most + 1)]
    return [max(values[first:last]) for first, last in itertools.pairwise(edges)]
