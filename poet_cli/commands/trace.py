"""`poet trace MODULE:FUNCTION -o graph.json`: a training step as a graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from poet_cli.files import write_file
from poet_cli.loading import advised, load_step
from poet_cli.options import json_option, step_argument
from poet_cli.output import print_json, working
from poet_core.units import parse_bytes


@click.command(
    epilog="Example: poet trace examples.mlp:step -o mlp.graph.json",
)
@step_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("graph.json"), show_default=True,
    help="Where the graph goes; - is standard output.",
)  # fmt: skip
@click.option(
    "--measure-seconds", is_flag=True,
    help="Time each op on this machine, for plans with --device host.",
)  # fmt: skip
@click.option(
    "--split-above", "split_above_bytes", type=parse_bytes, metavar="SIZE",
    help="Trace ops that need more than this at once in parts, to the same bits; training with a "
    "plan for such a graph takes the same size.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads that PyTorch computes with.")
@json_option
def trace(
    step: str,
    output: Path,
    measure_seconds: bool,
    split_above_bytes: int | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Trace a training step: forward, backward and update, as a graph of ops and storages.

    FUNCTION takes no arguments and returns (model, loss_fn, optimizer, batch); the batch's last
    element is the target. Nothing is trained, and the graph holds no weights and no code.
    """
    with advised(step):
        model, loss_fn, optimizer, batch = load_step(step)
    set_threads(threads)
    from poet_core.graph_document import graph_sha256, graph_to_document
    from poet_runtime.step_options import StepOptions
    from poet_runtime.tracing.trace import trace as trace_step

    with working(f"Tracing {step}", quiet=as_json), advised(step):
        program = trace_step(
            model, loss_fn, optimizer, batch, measure_seconds=measure_seconds, name=step,
            options=StepOptions(split_above_bytes=split_above_bytes),
        )  # fmt: skip
    graph = program.graph
    document = json.dumps(graph_to_document(graph), ensure_ascii=True)
    write_file(output, document.encode() + b"\n")
    figures = _figures(graph) | {"graph": str(output), "graph_sha256": graph_sha256(graph)}
    if as_json:
        print_json(figures)
    elif str(output) != "-":
        click.echo(_line(figures))


def set_threads(threads: int | None) -> None:
    """The threads of PyTorch, where they were given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def _figures(graph: Any) -> dict[str, Any]:
    from poet_core.baseline import judge_keep_everything
    from poet_core.bounds import ram_floor
    from poet_core.costs import Costs
    from poet_core.plan import Budget

    ops, storages = (0.0,) * len(graph.ops), (0.0,) * len(graph.storages)
    nothing = Costs(
        op_seconds=ops, op_joules=ops, page_in_seconds=storages, page_in_joules=storages,
        page_out_seconds=storages, page_out_joules=storages,
    )  # fmt: skip
    floor = ram_floor(graph, Budget(ram_bytes=0))
    return {
        "ops": len(graph.ops),
        "storages": len(graph.storages),
        "flops": sum(op.flops for op in graph.ops),
        "keep_everything_bytes": judge_keep_everything(graph, nothing).peak_bytes,
        "floor_bytes": floor.floor_bytes,
        "floor_set_by": floor.set_by,
    }


def _line(figures: dict[str, Any]) -> str:
    from poet_cli.output import safe
    from poet_core.units import format_bytes

    return (
        f"{safe(figures['graph'])}: {figures['ops']} ops, "
        f"{format_bytes(figures['keep_everything_bytes'])} if everything is kept, RAM floor "
        f"{format_bytes(figures['floor_bytes'])} (set by {figures['floor_set_by']})"
    )
