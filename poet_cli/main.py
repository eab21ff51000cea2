"""`poet`: the group of commands, the error boundary and the exit codes.

    0   fits, or done            3   undecided: no plan in the time given, or no server
    1   proven not to fit, or    4   internal: a fault of ours, or a step that could not be
        refused by the judge         carried out
    2   wrong usage or document

Every error is one clear message with its code and a hint; `--json` gives it as JSON on stdout. A
traceback is shown only with POET_DEBUG=1.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from poet_cli.command_group import LazyGroup
from poet_cli.command_table import SECTIONS
from poet_cli.output import print_json, safe
from poet_core.errors import (
    BudgetError,
    PlanError,
    PlanningError,
    PoetError,
    ReplayError,
    ServiceError,
    UsageError,
)

_EXIT_CODES: tuple[tuple[type[PoetError], int], ...] = (
    (BudgetError, 1),
    (PlanError, 1),
    (PlanningError, 3),
    (ServiceError, 3),
    (ReplayError, 4),
    (PoetError, 2),
)
_INTERNAL = 4
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_PIPE_CLOSED = 141  # 128 + SIGPIPE


def _print_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("poet-planner")
    except PackageNotFoundError:
        number = "unknown (run from a source tree)"
    click.echo(f"poet {number}")
    context.exit()


@click.group(
    cls=LazyGroup,
    package="poet_cli.commands",
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:\n\n"
    "\b\n"
    "  poet trace examples.mlp:step -o mlp.graph.json\n"
    "  poet plan mlp.graph.json --device raspberry-pi-4b --ram 1900KiB -o mlp.plan.json\n"
    "  poet show mlp.graph.json mlp.plan.json\n\n"
    "Sizes carry a unit: 512MiB, 1.5GB. `poet COMMAND --help` has examples of each.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Train inside a device's RAM: trace a step, plan it, judge the plan, replay it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; or answer a shell that completes it."""
    asked = os.environ.get("_POET_COMPLETE")
    if asked:
        from poet_cli.completion import answer

        sys.exit(answer(cli, asked))
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name of a document may be in any script
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    as_json = _wants_json(arguments)
    try:
        # Not cli.main: it has exit codes of its own, and 1 is a verdict here.
        with cli.make_context("poet", list(arguments)) as context:
            cli.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as asked:
        return asked.exit_code
    except PoetError as error:
        _show(error, as_json)
        return next(code for cls, code in _EXIT_CODES if isinstance(error, cls))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        _show_click(error, as_json)
        return 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123  For the last flush.
        return _PIPE_CLOSED
    except Exception as error:  # noqa: BLE001  The last resort: one line instead of a traceback.
        _show_unexpected(error, as_json)
        return _INTERNAL
    return 0


def _wants_json(arguments: Sequence[str]) -> bool:
    given = list(arguments)
    return "--json" in (given[: given.index("--")] if "--" in given else given)


def _show(error: PoetError, as_json: bool) -> None:
    if as_json:
        print_json({"ok": False, "error": error.to_document()})
        return
    click.echo(f"error: {safe(error.message, 1000)} [{safe(error.code, 60)}]", err=True)
    if error.hint:
        click.echo(f"  hint: {safe(error.hint, 1000)}", err=True)
    if os.environ.get("POET_DEBUG") == "1":
        click.echo(safe_traceback(error), err=True)


def _show_click(error: click.ClickException, as_json: bool) -> None:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "poet"
    hint, code = f"See `{path} --help`.", "usage"
    message = error.format_message()
    if isinstance(error, click.NoSuchOption):
        code, message = "option_unknown", f"`{path}` has no option {error.option_name}."
        if error.possibilities:
            hint = f"Did you mean {' or '.join(error.possibilities)}? {hint}"
    elif isinstance(error, click.MissingParameter):
        code, hint = "argument_missing", f"{_example(context)}{hint}"
    _show(UsageError(safe(message, 500), code=code, hint=hint), as_json)


def _example(context: click.Context | None) -> str:
    """The first example of the command's help, as a hint."""
    lines = ((context.command.epilog or "") if context is not None else "").splitlines()
    shown = (line.strip().removeprefix("Example: ") for line in lines)
    first = next((line for line in shown if line.startswith("poet ")), "")
    return f"E.g. `{first}`. " if first else ""


def _show_unexpected(error: Exception, as_json: bool) -> None:
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    unforeseen = PoetError(
        f"Something unexpected happened: {safe(what, 300)}",
        code="internal",
        hint="Set POET_DEBUG=1 to see the traceback, and report it.",
    )
    _show(unforeseen, as_json)
    if os.environ.get("POET_DEBUG") == "1":
        click.echo(safe_traceback(error), err=True)


def safe_traceback(error: BaseException) -> str:
    """The traceback with every line made safe to show."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(safe(line, 500) for line in lines)


if __name__ == "__main__":
    main()
