"""`poet check`: whether models fit devices, as a configuration asks; the gate in CI."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from poet_cli.check.rendering import FORMATS, output, rendered
from poet_cli.files import keep_inputs, write_file
from poet_cli.options import json_option
from poet_cli.output import in_colour, print_json, safe, say, terminal_width, working
from poet_cli.server_options import server_options, taken_server
from poet_core.errors import UsageError
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_cli.check.cache import Cache
    from poet_cli.check.report import Report
    from poet_cli.check.running import Outcome, RunOptions
    from poet_cli.check.settings import Settings

_SAID_LINES = 40


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet check\n"
    "  poet check --init examples.mlp:step --device jetson-tx2 --device nrf52840\n"
    "  poet check --only '*nrf52840' --seconds 60\n"
    "  poet check --baseline origin/main --output markdown=check.md --output sarif=check.sarif\n"
    "  poet check --server https://plans.example --fallback local",
)
@click.argument("steps", metavar="[MODULE:FUNCTION]...", nargs=-1)
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE",
    help="The configuration; default: poet-check.toml or pyproject.toml, here or above.",
)  # fmt: skip
@click.option(
    "--init", "first", is_flag=True,
    help="Write a first poet-check.toml: what the steps take now on --device, and a quarter more.",
)  # fmt: skip
@click.option(
    "--device", "devices", multiple=True, metavar="NAME", help="With --init; may be repeated."
)
@click.option("--only", metavar="GLOB", help="Rows whose name, or step, is like this.")
@click.option(
    "--format", "shape", type=click.Choice(FORMATS), default="human", show_default=True,
    help="What is printed; github annotates a pull request's files.",
)  # fmt: skip
@click.option(
    "--output", "outputs", multiple=True, metavar="[FORMAT=]FILE",
    help="Write the report to a file as well, in that format; may be repeated.",
)  # fmt: skip
@click.option(
    "--baseline", metavar="FILE|GIT-REF",
    help="An earlier report (--output json=poet-check-baseline.json) to show what changed since.",
)  # fmt: skip
@click.option("--no-cache", is_flag=True, help="Neither read nor keep what is known.")
@click.option("--refresh", is_flag=True, help="Trace and plan everything again, and keep that.")
@click.option(
    "--jobs", type=click.IntRange(1, 64), help="Children at once; default: the cores, at most 4."
)
@click.option(
    "--seconds", "planner_seconds", type=click.FloatRange(0.1, 3600),
    help="For the planner, a row; over what the configuration says.",
)  # fmt: skip
@click.option(
    "--trace-timeout", "trace_seconds", type=click.FloatRange(1, 86400),
    help="Seconds that building and tracing a model may take.",
)  # fmt: skip
@click.option(
    "--trace-memory", "trace_memory_bytes", type=parse_bytes, metavar="SIZE",
    help="Address space of the process that traces (torch alone takes some GiB of it).",
)  # fmt: skip
@click.option(
    "--verbose",
    is_flag=True,
    help="Show what the models' code printed, and why it was traced again, on stderr.",
)
@server_options
@json_option
def check(
    steps: Sequence[str],
    config: Path | None,
    first: bool,
    devices: Sequence[str],
    only: str | None,
    shape: str,
    outputs: Sequence[str],
    baseline: str | None,
    no_cache: bool,
    refresh: bool,
    jobs: int | None,
    planner_seconds: float | None,
    trace_seconds: float | None,
    trace_memory_bytes: int | None,
    verbose: bool,
    as_json: bool,
    **where: Any,
) -> None:
    """Check that models fit devices: the gate in CI.

    Exit codes: 0 every row fits, 1 one is proven not to, 2 wrong configuration, or a model that
    cannot be traced, 3 one is undecided in the time given, 4 internal. Rows of level "warn" are
    shown and do not count.
    """
    from poet_cli.check.running import RunOptions, default_jobs
    from poet_cli.check.tracing import TraceLimits

    shape = "json" if as_json else shape
    server = taken_server(where)
    if server is not None:
        with server.client():  # an address that is none is refused before anything is traced
            pass
    written = [output(text, shape) for text in outputs]
    settings = _first_settings(steps, devices, planner_seconds) if first else None
    if settings is None:
        settings = _settings(steps, devices, config, only, planner_seconds)
    keep_inputs([settings.file], [item.path for item in written])
    limit = trace_memory_bytes or settings.trace_memory_bytes
    options = RunOptions(
        folder=settings.folder,
        trace=TraceLimits(wall_seconds=trace_seconds or settings.trace_seconds, memory_bytes=limit),
        jobs=jobs or default_jobs(),
        cache=None if no_cache else _cache(),
        refresh=refresh,
        server=server,
    )
    before = None if baseline is None else _baseline(baseline, settings)
    outcome = _run(settings, options, quiet=shape != "human")
    if verbose:
        _show_said(outcome)
    if first:
        _write_first(outcome.report, settings, as_json)
        return
    for item in written:
        write_file(item.path, rendered(outcome.report, item.shape, before).encode())
    colour = in_colour()
    text = rendered(outcome.report, shape, before, width=terminal_width(200), colour=colour)
    click.echo(text, nl=False, color=colour)
    code = outcome.report.exit_code()
    if code:
        raise click.exceptions.Exit(code)


def _settings(
    steps: Sequence[str],
    devices: Sequence[str],
    config: Path | None,
    only: str | None,
    planner_seconds: float | None,
) -> Settings:
    """The configuration, with what the command line says over it. Raises UsageError."""
    from poet_cli.check.settings import load_settings

    if steps or devices:
        given = "a step" if steps else "--device"
        raise UsageError(
            f"Expected {given} only with --init: what is checked stands in the configuration.",
            code="check_init_missing",
            hint="poet check --init MODULE:FUNCTION --device NAME writes a first one; "
            "poet check --only GLOB checks some rows.",
        )
    settings = load_settings(Path.cwd(), config)
    entries = settings.entries
    if only is not None:
        entries = tuple(
            one
            for one in entries
            if any(fnmatch.fnmatchcase(t, only) for t in (one.name, one.step))
        )
        if not entries:
            names = ", ".join(safe(one.name, 60) for one in settings.entries[:5])
            raise UsageError(
                f"No row is like {safe(only, 60)!r}.",
                code="check_nothing_selected",
                hint=f"Rows are called, for example: {names}. Quote the * for the shell.",
            )
    if planner_seconds is not None:
        entries = tuple(replace(one, planner_seconds=planner_seconds) for one in entries)
    return replace(settings, entries=entries)


def _first_settings(
    steps: Sequence[str], devices: Sequence[str], planner_seconds: float | None
) -> Settings:
    from poet_cli.check.init import init_entries, keeps_clear_of_project
    from poet_cli.check.settings import Settings

    folder = Path()
    keeps_clear_of_project(Path.cwd())
    entries = init_entries(steps, devices, folder, planner_seconds or 10.0)
    return Settings(file=entries[0].place.file, folder=folder, entries=tuple(entries))


def _write_first(report: Report, settings: Settings, as_json: bool) -> None:
    from poet_cli.check.init import init_text
    from poet_cli.check.report import Verdict

    text = init_text(report)
    write_file(settings.file, text.encode())
    fitting = sum(row.verdict is Verdict.FITS for row in report.rows)
    if as_json:
        print_json({"ok": True, "config": str(settings.file), "entries": fitting})
        return
    click.echo(f"{settings.file}: {fitting} of {len(report.rows)} fit and are written down.")
    for row in report.rows:
        if row.verdict is not Verdict.FITS:
            click.echo(f"  left out: {safe(row.entry.name)}: {safe(row.reason, 300)}")
    click.echo("Now run: poet check")


def _run(settings: Settings, options: RunOptions, *, quiet: bool) -> Outcome:
    from poet_cli.check.running import run_check

    with _terminated_as_interrupted(), working("Checking", quiet=quiet) as tell:
        return run_check(settings.entries, options, tell)


def _baseline(given: str, settings: Settings) -> Report:
    from poet_cli.check.baseline import load_baseline

    return load_baseline(given, settings.folder)


def _cache() -> Cache:
    from poet_cli.check.cache import Cache, cache_folder

    return Cache(cache_folder(os.environ))


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A CI that stops the job sends SIGTERM: children and files are cleared away then too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_said(outcome: Outcome) -> None:
    for step, why in outcome.why_traced.items():
        say(f"{safe(step, 60)} was traced again: {safe(why, 300)}")
    for step, text in outcome.said.items():
        say(f"{safe(step, 60)} printed:")
        for line in text.splitlines()[-_SAID_LINES:]:
            say(f"  {safe(line, 300)}")
