"""A report in one of its formats, and where it goes.

Invariant: a format is a module of `formats`; only the one that is asked for is imported.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poet_cli.output import safe
from poet_core.errors import UsageError

if TYPE_CHECKING:
    from poet_cli.check.report import Report

FORMATS = ("human", "json", "markdown", "junit", "sarif", "github")
# A file has no width of its own.
_FILE_WIDTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A file that gets the report, and in which format."""

    shape: str
    path: Path


def output(text: str, shape: str) -> Output:
    """What FORMAT=FILE, or FILE in the format `shape`, means. Raises UsageError (`output_invalid`)."""
    name, equals, path = text.partition("=")
    if not equals:
        return Output(shape=shape, path=Path(text))
    if name not in FORMATS or not path:
        from difflib import get_close_matches

        near = get_close_matches(name[:64], FORMATS, n=1, cutoff=0.4) or ["markdown"]
        raise UsageError(
            f"Expected --output FILE or FORMAT=FILE, got {safe(text, 60)!r}.",
            code="output_invalid",
            hint=f"--output {near[0]}={path or 'check.txt'}; formats: {', '.join(FORMATS)}.",
        )
    return Output(shape=name, path=Path(path))


def rendered(
    report: Report,
    shape: str,
    baseline: Report | None,
    *,
    width: int = _FILE_WIDTH,
    colour: bool = False,
) -> str:
    """The report as text; `width` and `colour` are for people's eyes."""
    if shape == "json":
        from poet_cli.check.formats import document

        return document.render(report)
    if shape == "human":
        from poet_cli.check.formats import human

        return human.render(report, baseline=baseline, width=width, colour=colour)
    module = importlib.import_module(f"poet_cli.check.formats.{shape}")
    text: str = module.render(report, baseline=baseline)
    return text
