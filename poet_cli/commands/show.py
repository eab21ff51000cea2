"""`poet show GRAPH PLAN`: memory over program order, and what is in RAM at the peak."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, load_plan, write_file
from poet_cli.options import json_option
from poet_cli.output import echo_styled, print_json, print_table, safe, terminal_width

if TYPE_CHECKING:
    from poet_cli.chart import Timeline
    from poet_core.graph import TrainingGraph
    from poet_core.plan import Plan

_ROWS = 12
_STYLES: dict[str, dict[str, Any]] = {
    "forward": {"fg": "cyan"},
    "backward": {"fg": "blue"},
    "backward and update": {"fg": "blue"},
    "update": {"fg": "magenta"},
    "budget": {"fg": "red"},
    "peak": {"bold": True},
    "mark": {"fg": "yellow"},
}


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet show mlp.graph.json mlp.plan.json\n"
    "  poet show mlp.graph.json mlp.plan.json --html report.html",
)
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE",
    help="Write one HTML page that needs nothing else.",
)  # fmt: skip
@json_option
def show(graph: Path, plan: Path, html: Path | None, as_json: bool) -> None:
    """Show a plan: memory over program order, its peak, and what is in RAM there.

    The plan is judged first; what is shown are the judge's figures. Below the axis: where the phases
    begin, and where storages are paged in and out and ops run again.
    """
    from poet_cli.residency import residents
    from poet_cli.timeline import phase_starts, timeline_of
    from poet_core.summary import summarize
    from poet_core.verify import verify

    keep_inputs([graph, plan], [html])
    step, found = load_graph(graph), load_plan(plan)
    judgement = verify(step, found)
    summary = summarize(step, found, judgement)
    peak = judgement.peak_instruction
    at_peak = residents(step, found.budget, found.schedule, peak)
    where = describe_instruction(step, found, peak)
    if html is not None:
        from poet_cli.report import html_report

        write_file(html, html_report(step, found, judgement, summary, at_peak, where))
    if as_json:
        print_json(
            summary.to_document()
            | {
                "peak_instruction": peak,
                "phases": [
                    {"phase": phase, "instruction": first}
                    for phase, first in phase_starts(step, found)
                ],
                "memory_bytes": list(judgement.memory_bytes),
                "at_peak": [
                    {"name": item.name, "role": item.role, "bytes": item.size_bytes}
                    for item in at_peak
                ],
            }
        )
        return
    from poet_core.units import format_bytes

    _draw(timeline_of(step, found, judgement))
    click.echo(f"\n{safe(summary.line(), 400)}")
    click.echo(f"peak {format_bytes(judgement.peak_bytes)} {where}; in RAM there:\n")
    print_table(
        ("size", "storage", "role", ""),
        [
            (format_bytes(item.size_bytes), item.name, item.role, "in use" if item.touched else "")
            for item in at_peak[:_ROWS]
        ],
        right=("size",),
    )
    rest = at_peak[_ROWS:]
    if rest:
        total = format_bytes(sum(item.size_bytes for item in rest))
        click.echo(f"and {len(rest)} more, {total} together")


def _draw(timeline: Timeline) -> None:
    from poet_cli.chart import glyphs_for, memory_chart

    glyphs = glyphs_for(sys.stdout.encoding)
    for line in memory_chart(timeline, width=terminal_width(160), glyphs=glyphs):
        for text, role in line:
            echo_styled(text, nl=False, **_STYLES.get(role, {}))
        click.echo()


def describe_instruction(graph: TrainingGraph, plan: Plan, position: int) -> str:
    """Where in the plan, in words that are safe to show."""
    if position < 0:
        return "before the first instruction"
    instruction = plan.schedule.instructions[position]
    named = (
        graph.ops[instruction.target]
        if instruction.do == "compute"
        else graph.storages[instruction.target]
    )
    return (
        f"during instruction {position} of {len(plan.schedule.instructions)}, "
        f"{str(instruction.do).replace('_', ' ')} {safe(named.name, 80)}"
    )
