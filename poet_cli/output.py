"""What goes to the terminal. stdout is for results, stderr for progress and errors.

Colour is for terminals; NO_COLOR (not empty) turns it off, FORCE_COLOR turns it on everywhere. Text from documents passes `safe`, and tables never interpret markup: a name with a terminal escape
or with [bold] in it is shown as it is written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from poet_core.text import printable


def safe(text: object, limit: int = 120) -> str:
    """`text` on one line without control characters."""
    return printable(str(text), limit)


def print_json(document: Any) -> None:
    """One JSON document on stdout, in ASCII: no terminal reads anything else into it."""
    click.echo(json.dumps(document, ensure_ascii=True, allow_nan=False))


def say(text: str) -> None:
    """A line of progress, on stderr."""
    click.echo(text, err=True)


def in_colour() -> bool:
    """Whether stdout takes colour (no-color.org, force-color.org; the first one wins)."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def echo_styled(text: str, *, nl: bool = True, **style: Any) -> None:
    """`text`, which is safe to show, on stdout with click's styles where there is colour."""
    coloured = in_colour()
    click.echo(click.style(text, **style) if coloured else text, nl=nl, color=coloured)


def terminal_width(most: int = 100) -> int:
    """Columns for a picture or a text; 80 where no terminal says."""
    return min(shutil.get_terminal_size((80, 24)).columns, most)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """A table on stdout; cells are plain text. `right` names the columns of numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    coloured = in_colour()
    table = Table(box=None, pad_edge=False, header_style="bold" if coloured else "")
    for column in columns:
        table.add_column(
            Text(column), justify="right" if column in right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(safe(cell, 400)) for cell in row))
    # Without a terminal, lines are not cut to a width that nobody has.
    width = None if sys.stdout.isatty() else 200
    Console(width=width, force_terminal=coloured, highlight=False, markup=False, emoji=False).print(
        table
    )


@contextmanager
def working(text: str, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """A spinner with the elapsed time on stderr; yields what changes its text. Nothing where no
    terminal is."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(safe(text), total=None)
        yield lambda newer: progress.update(task, description=safe(newer, 200))
