"""`poet doctor`: what is installed here, what that costs, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import click

from poet_cli.options import json_option
from poet_cli.output import echo_styled, print_json, safe, terminal_width, working

if TYPE_CHECKING:
    from poet_cli.doctor.findings import Check, Finding

_BROKEN = 4
_COLOURS = {"ok": "green", "missing": "yellow", "warning": "yellow", "broken": "red"}
_INDENT = "  "


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet doctor\n"
    "  poet doctor --deep          # imports PyTorch, in a process of its own\n"
    "  poet doctor --json | jq '.findings[] | select(.state != \"ok\")'",
)
@click.option("--deep", is_flag=True, help="Import PyTorch too, in a process of its own; seconds.")
@json_option
def doctor(deep: bool, as_json: bool) -> None:
    """Say what is installed here, what that costs, and how to mend it.

    Each solver is tried on a tiny model, and a memory group is made and removed; nothing else is
    changed. Exit codes: 0 plans can be made here, 4 they cannot.
    """
    from poet_cli.doctor.findings import State

    sections = []
    with working("Looking", quiet=as_json) as tell:
        for title, checks in _sections(deep=deep):
            sections.append((title, _findings(checks, tell)))
    findings = [finding for _, part in sections for finding in part]
    broken = any(finding.state is State.BROKEN for finding in findings)
    if as_json:
        print_json({"ok": not broken, "findings": [item.to_document() for item in findings]})
    else:
        for title, part in sections:
            _print_section(title, part)
        click.echo(_verdict(findings))
    if broken:
        raise click.exceptions.Exit(_BROKEN)


def _sections(*, deep: bool) -> Iterable[tuple[str, list[tuple[str, Check]]]]:
    from poet_cli.doctor import installed, machine

    yield "poet", [("Python", installed.python), ("native parts", installed.native_parts)]
    yield "Planning", [("solvers", installed.solvers)]
    yield (
        "Tracing and training",
        [
            ("PyTorch", partial(installed.torch, deep=deep)),
            ("GPU", machine.gpu),
            ("memory groups", machine.memory_groups),
            ("paging folder", machine.paging_place),
        ],
    )
    yield "Folders", [("folders", machine.folders)]
    yield "Extras", [("extras", installed.extras)]


def _findings(checks: list[tuple[str, Check]], tell: Callable[[str], None]) -> list[Finding]:
    from poet_cli.doctor.findings import looked_at

    found: list[Finding] = []
    for name, check in checks:
        tell(f"Looking at {name}")
        found += looked_at(name, check)
    return found


def _print_section(title: str, findings: list[Finding]) -> None:
    echo_styled(title, bold=True)
    for item in findings:
        state = str(item.state)
        shown = f"{state:<8}{safe(item.name):<17}"
        echo_styled(_INDENT, nl=False)
        echo_styled(shown[:8], fg=_COLOURS[state], nl=False)
        _print_wrapped(shown[8:], safe(item.found, 400), len(_INDENT) + 8)
        if state != "ok":
            for label, text in (("costs", item.costs), ("fix", item.fix)):
                if text:
                    click.echo(" " * (len(_INDENT) + 8), nl=False)
                    _print_wrapped(f"  {label + ':':<15}", safe(text, 400), len(_INDENT) + 8)
    click.echo()


def _print_wrapped(label: str, text: str, before: int) -> None:
    """`text` in a column beside `label`, which begins `before` characters into the line."""
    import textwrap

    room = max(24, terminal_width() - before - len(label))
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]
    click.echo(label + lines[0])
    for line in lines[1:]:
        click.echo(" " * (before + len(label)) + line)


def _verdict(findings: list[Finding]) -> str:
    from poet_cli.doctor.findings import State

    count = {state: sum(item.state is state for item in findings) for state in State}
    if count[State.BROKEN]:
        return "Nothing can be planned here before what is broken is mended."
    rest = [f"{count[state]} {state}" for state in (State.MISSING, State.WARNING) if count[state]]
    return "Plans can be made here." + (f" {', '.join(rest)}." if rest else "")
