"""A report for the terminal: one table, failures first, and below it what to do for each.

    model  device  floor  peak  budget  headroom  time  energy  gap  verdict
    FAIL name  file:line
      Limit, Actual, what is in RAM there, what would help, the line to write

Invariant: between 80 and 200 columns nothing is wider than the terminal, and no text of others
reaches it with control characters or markup.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from poet_cli.check.baseline import Change, changes, gone
from poet_cli.check.formats import words
from poet_cli.check.formats.escape import line, no_commands, relative_path
from poet_cli.check.report import Report, Row, Verdict

if TYPE_CHECKING:
    from rich.console import Console

LEAST_WIDTH, MOST_WIDTH = 60, 200
# Below this many columns the figures of lesser weight are left out.
_ALL_COLUMNS_WIDTH = 120
_STYLES = {
    Verdict.FITS: "green",
    Verdict.DOES_NOT_FIT: "bold red",
    Verdict.UNDECIDED: "yellow",
    Verdict.FAILED: "bold red",
}


def render(
    report: Report,
    *,
    baseline: Report | None = None,
    root: Path | None = None,
    width: int = 100,
    colour: bool = False,
) -> str:
    """The report as text. `root`: the folder that file names are shown from, the current one unless
    given; `colour`: with ANSI colours."""
    from rich.console import Console

    width = max(LEAST_WIDTH, min(width, MOST_WIDTH))
    out = io.StringIO()
    console = Console(
        file=out, width=width, highlight=False, markup=False, emoji=False, legacy_windows=False,
        force_terminal=colour, color_system="standard" if colour else None, no_color=not colour,
    )  # fmt: skip
    changed = {} if baseline is None else changes(report, baseline)
    rows = words.ordered(report)
    if rows:
        _print_table(console, rows, changed, width)
    for row in rows:
        if row.verdict is not Verdict.FITS or row.internal:
            _print_details(console, row, root or Path.cwd(), width)
    _print_changes(console, rows, changed)
    if baseline is not None and (names := gone(report, baseline)):
        _print(console, f"No longer checked: {', '.join(names)}", width)
    if report.notes:
        console.print()
    for note in report.notes:
        _print(console, f"Note: {note}", width)
    _print(console, words.summary_line(report), width)
    return no_commands(out.getvalue())


def _print_table(
    console: Console, rows: list[Row], changed: Mapping[str, Change], width: int
) -> None:
    from rich.table import Table
    from rich.text import Text

    wide = width >= _ALL_COLUMNS_WIDTH
    table = Table(box=None, pad_edge=False, header_style="bold", width=None, padding=(0, 1, 0, 0))
    table.add_column("model", overflow="fold", ratio=None, min_width=10)
    table.add_column("device", overflow="fold", min_width=8)
    names = ["floor", "peak", "budget", "headroom"] if wide else ["needs", "budget"]
    names += ["time", "energy", *(["gap"] if wide else [])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    if changed:
        table.add_column("change", overflow="fold", min_width=6)
    table.add_column("verdict", overflow="fold", min_width=9)
    for row in rows:
        cells = [line(words.model_words(row.entry), 100), line(row.entry.device, 100)]
        cells += _figures(row, wide=wide)
        if changed:
            cells.append(words.change_words(changed.get(row.entry.name)))
        style = _STYLES[row.verdict] if not words.is_warning(row) else "yellow"
        table.add_row(*map(Text, cells), Text(words.verdict_words(row), style=style))
    console.print(table)


def _figures(row: Row, *, wide: bool) -> list[str]:
    time = words.overhead(row.seconds, row.base_seconds)
    energy = words.overhead(row.joules, row.base_joules)
    budget = words.size(row.entry.ram_bytes)
    if not wide:
        least = f"> {words.size(row.floor_bytes)}" if row.floor_bytes is not None else ""
        return [words.size(row.peak_bytes) or least, budget, time, energy]
    return [
        words.size(row.floor_bytes),
        words.size(row.peak_bytes),
        budget,
        words.signed_size(row.headroom_bytes).removeprefix("+"),
        time,
        energy,
        words.percent(row.gap),
    ]


def _print_details(console: Console, row: Row, root: Path, width: int) -> None:
    from rich.text import Text

    place = row.entry.place
    where = f"{line(relative_path(place.file, root), 200)}:{place.line}"
    mark = "FAIL" if words.is_failure(row) else "WARN"
    style = "bold red" if mark == "FAIL" else "bold yellow"
    console.print()
    console.print(
        Text.assemble((mark, style), " ", (line(row.entry.name, 200), "bold"), f"  {where}"),
        overflow="fold",
    )
    for label, sentence in words.details(row):
        _print(console, f"{label}: {sentence}" if label else sentence, width, indent="  ")
    if fix := words.fix_of(row):
        _print(console, f"Fix: in {where} write", width, indent="  ")
        console.print(Text(f"    {line(fix)}", style="bold"), overflow="fold")


def _print_changes(console: Console, rows: list[Row], changed: Mapping[str, Change]) -> None:
    told = [
        (row.entry.name, sentence)
        for row in rows
        if row.entry.name in changed
        and (sentence := words.change_sentence(changed[row.entry.name]))
    ]
    if not changed:
        return
    console.print()
    _print(console, "Since the baseline:" if told else "Nothing changed since the baseline.", 80)
    for name, sentence in told:
        _print(console, f"{line(name)}: {sentence}", console.width, indent="  ")


def _print(console: Console, text: str, width: int, *, indent: str = "") -> None:
    from rich.text import Text

    folded = textwrap.wrap(
        line(text, 2_000), width - len(indent) - 1, initial_indent=indent, subsequent_indent=indent,
        break_on_hyphens=False,
    )  # fmt: skip
    console.print(Text("\n".join(folded)), overflow="fold")
