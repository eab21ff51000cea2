"""A report as a comment on a pull request: the table, and what to do for each failure folded below.

The first line marks the comment, so that one is kept and rewritten. Invariant: text of others is
code wherever it stands, and the whole is small enough for one comment of GitHub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from poet_cli.check.baseline import Change, changes, gone
from poet_cli.check.formats import words
from poet_cli.check.formats.escape import markdown, markdown_block, no_commands, relative_path
from poet_cli.check.report import Report, Row, Verdict

MARKER = "<!-- poet-check -->"
# A comment of GitHub holds 65,536 characters; whoever writes it adds a line or two.
MOST_BYTES = 60_000
_TABLE_BYTES = 40_000
_COLUMNS = (
    "verdict", "model", "device", "RAM floor", "peak", "budget", "headroom", "time", "energy", "gap",
)  # fmt: skip


def render(report: Report, *, baseline: Report | None = None, root: Path | None = None) -> str:
    """The comment. `root`: the folder that file names are shown from, the current one unless given."""
    changed = None if baseline is None else changes(report, baseline)
    rows = words.ordered(report)
    mark = "❌" if any(map(words.is_failure, rows)) else "✅"
    parts = [MARKER, f"### {mark} poet check", "", words.summary_line(report), ""]
    if rows:
        parts += _table(rows, changed)
    if baseline is not None and (names := gone(report, baseline)):
        parts += ["", f"No longer checked: {', '.join(markdown(name) for name in names[:20])}"]
    parts += ["", *(f"Note: {markdown(note, 300)}" for note in report.notes[:5])]
    length = sum(map(_bytes, parts))
    told = [row for row in rows if row.verdict is not Verdict.FITS or row.internal]
    for index, row in enumerate(told):
        section = _section(row, root or Path.cwd())
        length += _bytes(section)
        if length > MOST_BYTES - 100:
            parts += ["", f"and {len(told) - index} more: see the run."]
            break
        parts.append(section)
    return no_commands("\n".join(parts).rstrip("\n") + "\n")


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace")) + 1  # and a line break


def _table(rows: list[Row], changed: Mapping[str, Change] | None) -> list[str]:
    columns = _COLUMNS if changed is None else (*_COLUMNS, "since the baseline")
    shown = [_cells(columns), _cells("---:" if 3 <= i <= 9 else "---" for i in range(len(columns)))]
    length = 0
    for index, row in enumerate(rows):
        cells = _figures(row)
        if changed is not None:
            cells.append(words.change_words(changed[row.entry.name]))
        shown.append(_cells(cells))
        length += _bytes(shown[-1])
        if length > _TABLE_BYTES:
            shown += ["", f"and {len(rows) - index - 1} rows more: see the run."]
            break
    return shown


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figures(row: Row) -> list[str]:
    mark = "❌ " if words.is_failure(row) else "⚠️ " if words.is_warning(row) else ""
    return [
        f"{mark}{words.verdict_words(row)}",
        markdown(words.model_words(row.entry)),
        markdown(row.entry.device),
        words.size(row.floor_bytes),
        words.size(row.peak_bytes),
        words.size(row.entry.ram_bytes),
        words.signed_size(row.headroom_bytes).removeprefix("+"),
        words.overhead(row.seconds, row.base_seconds),
        words.overhead(row.joules, row.base_joules),
        words.percent(row.gap),
    ]


def _section(row: Row, root: Path) -> str:
    where = f"{relative_path(row.entry.place.file, root)}:{row.entry.place.line}"
    told = [f"{label}: {text}" if label else text for label, text in words.details(row)]
    if fix := words.fix_of(row):
        told += [f"Fix, in {where}:", f"    {fix}"]
    else:
        told.append(f"Written in {where}")
    opened = " open" if words.is_failure(row) else ""
    return "\n".join((
        "", f"<details{opened}><summary>{markdown(row.entry.name)}: {words.verdict_words(row)}</summary>",
        "", markdown_block(told), "", "</details>",
    ))  # fmt: skip
