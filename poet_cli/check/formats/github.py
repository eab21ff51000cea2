"""A report as workflow commands of GitHub Actions: annotations at the lines of the configuration.

::error file=pyproject.toml,line=12,title=keyword on nrf52840::does not fit%0ALimit: ...
"""

from __future__ import annotations

from pathlib import Path

from poet_cli.check.baseline import changes
from poet_cli.check.formats import words
from poet_cli.check.formats.escape import (
    relative_path,
    repository_root,
    workflow_data,
    workflow_property,
)
from poet_cli.check.report import Report, Row, Verdict


def render(report: Report, *, baseline: Report | None = None, root: Path | None = None) -> str:
    """A line a row that does not fit, and one for all. `root`: the repository's root, the one of the configuration's
    unless given."""
    changed = {} if baseline is None else changes(report, baseline)
    commands = []
    for row in words.ordered(report):
        if row.verdict is Verdict.FITS and not row.internal:
            continue
        change = changed.get(row.entry.name)
        since = "" if change is None else words.change_sentence(change)
        commands.append(_annotation(row, root or repository_root(row.entry.place.file), since))
    commands.append(f"::notice title=poet check::{workflow_data(words.summary_line(report))}")
    return "\n".join(commands) + "\n"


def _annotation(row: Row, root: Path, since: str) -> str:
    place = row.entry.place
    told = [f"{label}: {text}" if label else text for label, text in words.details(row)]
    if fix := words.fix_of(row):
        told.append(f"Fix: write {fix}")
    if since:
        told.append(f"Since the baseline: {since}")
    properties = {
        "file": relative_path(place.file, root),
        "line": str(max(1, place.line)),
        "title": f"{row.entry.name}: {words.verdict_words(row)}",
    }
    named = ",".join(f"{name}={workflow_property(value)}" for name, value in properties.items())
    level = "error" if words.is_failure(row) else "warning"
    return f"::{level} {named}::{'%0A'.join(map(workflow_data, told))}"
