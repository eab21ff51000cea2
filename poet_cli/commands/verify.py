"""`poet verify GRAPH PLAN`: the judge, alone."""

from __future__ import annotations

from pathlib import Path

import click

from poet_cli.files import load_graph, load_plan
from poet_cli.options import json_option
from poet_cli.output import print_json


@click.command(epilog="Example: poet verify mlp.graph.json mlp.plan.json")
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("plan", type=click.Path(path_type=Path))
@json_option
def verify(graph: Path, plan: Path, as_json: bool) -> None:
    """Judge a plan: every instruction, every byte, and what the plan claims.

    A plan carries its device, budget and costs, so the graph is all that is needed. Exit code 1: the
    judge refuses it.
    """
    from poet_core.summary import summarize
    from poet_core.verify import verify as judge

    step, found = load_graph(graph), load_plan(plan)
    summary = summarize(step, found, judge(step, found))
    if as_json:
        print_json({"ok": True} | summary.to_document())
    else:
        click.echo(f"accepted; {summary.line()}")
