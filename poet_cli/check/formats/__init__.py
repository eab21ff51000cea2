"""A report in the forms that people and machines read.

document   poet.check/1, the JSON document, and reading one back as a stranger's
human      the terminal: one table, and below it what to do for each failure
markdown   a comment on a pull request
junit, sarif, github   what CI systems show beside tests and lines of code
words      what all of them say in the same words
escape     text that others chose, for each of these
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pathlib import Path

    from poet_cli.check.report import Report

_MODULES = {
    "human": "human",
    "json": "document",
    "markdown": "markdown",
    "junit": "junit",
    "sarif": "sarif",
    "github": "github",
}
FORMATS = tuple(_MODULES)


def rendered(
    shape: str,
    report: Report,
    *,
    baseline: Report | None = None,
    root: Path | None = None,
    width: int = 100,
    colour: bool = False,
) -> str:
    """The report in one of `FORMATS`, with the line break at its end. `root`: the repository's root,
    for file names; `width` and `colour` are for people. A baseline does not show in JSON."""
    render = importlib.import_module(f"{__name__}.{_MODULES[shape]}").render
    given: dict[str, Any] = {} if shape == "json" else {"baseline": baseline, "root": root}
    if shape == "human":
        given |= {"width": width, "colour": colour}
    text = render(report, **given)
    assert isinstance(text, str)
    return text


def terminal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> tuple[int, bool]:
    """Width and colour of where a report for people goes: none in NO_COLOR, files and pipes."""
    try:
        if stream.isatty():
            plain = bool(environment.get("NO_COLOR")) or environment.get("TERM") == "dumb"
            return os.get_terminal_size(stream.fileno()).columns or 100, not plain
    except (OSError, ValueError):
        pass
    return 160, False
