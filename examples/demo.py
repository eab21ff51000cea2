"""`make demo`: the whole path on real input, with every claim checked by another process.

trace the joint step of a ProjectionNet -> POST it to the planning service -> judge the plan ->
train with it inside the budget -> train again without a budget and in eager PyTorch, each in a
process of its own -> compare the bits and print one table.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from examples.demo_parts import planning_service, run_worker
from examples.demo_report import Report, print_report
from poet_core.devices import load_device
from poet_core.errors import PoetError
from poet_core.graph_document import graph_sha256
from poet_core.plan_document import plan_to_document
from poet_core.problem import make_problem
from poet_core.units import format_bytes

_MOST_PERCENT = 60  # the budget is at most this share of keep-everything


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; 0 when the peak is inside the budget and the bits agree."""
    options = _options(arguments)
    try:
        report = run_demo(options)
    except PoetError as error:
        print(f"demo: {error} [{error.code}]", file=sys.stderr)
        return 1
    print_report(report)
    if options.json:
        Path(options.json).write_text(json.dumps(report.to_document(), indent=1) + "\n")
    return 0 if report.holds else 1


def run_demo(options: argparse.Namespace) -> Report:
    """Trace, plan, train three times, compare."""
    say = _progress(options.quiet)
    import torch

    from examples.projection import step as joint_step
    from poet_core.baseline import judge_keep_everything
    from poet_core.bounds import ram_floor
    from poet_core.verify import verify
    from poet_runtime.tracing.trace import trace

    torch.set_num_threads(options.threads)
    say("Tracing the joint step of trainer 784-1000-1000-1000-10 and projection [60,12] …")
    model, loss_fn, optimizer, batch = joint_step(optimizer=options.optimizer)
    program = trace(model, loss_fn, optimizer, batch)
    graph = program.graph
    device = load_device(options.device)
    unlimited = make_problem(graph, device, ram_bytes=device.ram_bytes)
    keep = judge_keep_everything(
        graph,
        unlimited.costs,
        reserved_bytes=unlimited.budget.reserved_bytes,
        alignment_bytes=unlimited.budget.alignment_bytes,
    )
    floor = ram_floor(graph, unlimited.budget)
    ram_bytes = keep.peak_bytes * options.ram_percent // 100
    say(
        f"{len(graph.ops)} ops, {format_bytes(keep.peak_bytes)} if everything is kept, floor "
        f"{format_bytes(floor.floor_bytes)} (set by {floor.set_by}); "
        f"budget {format_bytes(ram_bytes)}"
    )
    with planning_service(options.server) as server:
        say(f"Planning at {server} for {device.name} …")
        from poet_client import PlannerClient

        plan = PlannerClient(server).plan(graph, device=options.device, ram_bytes=ram_bytes)
    judgement = verify(graph, plan)
    say(f"Plan: {plan.planned_by.status} ({plan.planned_by.wall_seconds:.1f} s)")
    with tempfile.TemporaryDirectory(prefix="poet-demo-") as folder:
        plan_path = Path(folder) / "plan.json"
        plan_path.write_text(json.dumps(plan_to_document(plan)))
        runs: dict[str, dict[str, Any]] = {}
        for mode in ("planned", "unconstrained", "eager"):
            say(f"Training {options.steps} steps, {mode} …")
            runs[mode] = run_worker(mode, plan_path, Path(folder) / f"{mode}.json", options)
    return Report(
        graph_sha256=graph_sha256(graph),
        op_count=len(graph.ops),
        device=device.name,
        keep=keep,
        floor=floor,
        plan=plan,
        judgement=judgement,
        runs=runs,
        steps=options.steps,
        optimizer=options.optimizer,
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.demo",
        description="Trace, plan, judge and train a ProjectionNet inside a share of its RAM.",
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps (default 400)")
    parser.add_argument(
        "--ram-percent",
        type=int,
        default=_MOST_PERCENT,
        help=f"budget in percent of keep-everything, at most {_MOST_PERCENT} (the default)",
    )
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam")
    parser.add_argument("--device", default="raspberry-pi-4b", help="a name of `poet devices list`")
    parser.add_argument("--server", help="a running service; by default one is started")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", help="write the report here as well")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    options = parser.parse_args(arguments)
    if not 1 <= options.ram_percent <= _MOST_PERCENT:
        parser.error(f"--ram-percent: expected 1 to {_MOST_PERCENT}, got {options.ram_percent}")
    if options.steps < 3:
        parser.error(f"--steps: expected at least 3 (a stale copy shows late), got {options.steps}")
    return options


def _progress(quiet: bool) -> Any:
    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    return say


if __name__ == "__main__":
    sys.exit(main())
