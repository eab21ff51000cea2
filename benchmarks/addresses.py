"""Arena over judged peak: `python -m benchmarks.addresses [--write]`.

Steps of the examples are traced and planned without a MILP, so that the plans are the same on every
machine: keep-everything, and the eviction schedule that keeps as much as fits, at several RAM
budgets between the floor and keep-everything's peak. `--write` stores results/addresses.json and
.md. Exit status 1 when a ratio is above the published target of 1.02 (1.00 for keep-everything).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from examples import bert, lstm, mlp, projection, resnet, vgg
from examples.parts import Step
from poet_core.baseline import keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Problem, Schedule
from poet_core.simulate import simulate
from poet_runtime.trace import trace
from poet_solvers.addresses.arena import LOOKS, place_schedule
from poet_solvers.addresses.search import Effort
from poet_solvers.evict import best_evict_schedule
from poet_solvers.values import value_table

STEPS: dict[str, Callable[[], Step]] = {
    "mlp": mlp.step,
    "projection (Adam)": projection.step,
    "vgg small": vgg.step_small,
    "resnet small": resnet.step_small,
    "bert tiny": bert.step_tiny,
    "lstm": lstm.step,
}
SHARES = (0.75, 0.5, 0.25, 0.1, 0.05, 0.0)
"""RAM budgets: the floor plus this share of the way to keep-everything's peak."""

_RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plan and its arena."""

    step: str
    plan: str
    ops: int
    spans: int
    peak_bytes: int
    arena_bytes: int
    ratio: float
    seconds: float
    found_by: str


def schedules(graph: TrainingGraph) -> Iterator[tuple[str, Budget, Schedule]]:
    """Keep-everything, then eviction at each budget that has a schedule."""
    device = load_device("raspberry-pi-4b")
    costs = costs_on(graph, device)
    budget = Budget(ram_bytes=2**62, alignment_bytes=device.alignment_bytes, overlap=True)
    base = keep_everything(graph)
    yield "keep everything", budget, base
    peak = simulate(graph, costs, budget, base).peak_bytes
    floor = ram_floor(graph, budget).floor_bytes
    for share in SHARES:
        ram_bytes = int(floor + share * (peak - floor))
        narrow = Budget(ram_bytes=ram_bytes, alignment_bytes=device.alignment_bytes, overlap=True)
        problem = Problem(graph=graph, costs=costs, budget=narrow)
        schedule = best_evict_schedule(problem, value_table(graph, narrow))
        if schedule is not None:
            yield f"evict, floor + {100 * share:.0f}%", narrow, schedule


def rows(name: str) -> Iterator[Row]:
    """Place every plan of one step."""
    graph = trace(*STEPS[name](), measure_workspace=False).graph
    costs = costs_on(graph, load_device("raspberry-pi-4b"))
    for title, budget, schedule in schedules(graph):
        judgement = simulate(graph, costs, budget, schedule)
        begin = time.perf_counter()
        effort = Effort(looks=LOOKS, out_of_time=lambda: False)
        addresses = place_schedule(graph, budget, schedule, judgement, Random(0), effort)
        yield Row(
            step=name,
            plan=title,
            ops=len(graph.ops),
            spans=len(addresses.placed),
            peak_bytes=addresses.peak_bytes,
            arena_bytes=addresses.arena_bytes,
            ratio=addresses.ratio,
            seconds=time.perf_counter() - begin,
            found_by=addresses.found_by,
        )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and store it with `--write`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(STEPS)}; all without")
    parser.add_argument("--write", action="store_true", help="write the result files")
    options = parser.parse_args(arguments)
    measured = []
    for name in options.steps or STEPS:
        for row in rows(name):
            measured.append(row)
            print(f"{row.step}, {row.plan}: {row.ratio:.4f}", file=sys.stderr, flush=True)
    text = table(measured)
    print(text, end="")
    if options.write:
        _RESULTS.mkdir(exist_ok=True)
        document = json.dumps([asdict(row) for row in measured], indent=1) + "\n"
        (_RESULTS / "addresses.json").write_text(document, encoding="utf-8")
        (_RESULTS / "addresses.md").write_text(text, encoding="utf-8")
    limits = (1.0 if row.plan == "keep everything" else 1.02 for row in measured)
    return int(any(row.ratio > limit for row, limit in zip(measured, limits, strict=True)))


def table(measured: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| step | plan | ops | spans | peak bytes | arena / peak | seconds | found by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.step} | {r.plan} | {r.ops} | {r.spans} | {r.peak_bytes} | {r.ratio:.4f} "
        f"| {r.seconds:.2f} | {r.found_by} |"
        for r in measured
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
