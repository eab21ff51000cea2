"""What depth costs: greedy's plan of a GPT step with Adam of 12 to 96 layers, with and without repetition.

    python -m benchmarks.depth [--write]

Seconds are process time of one core for the best of greedy's beginnings, on a Jetson TX2 at the RAM
floor plus 5% and at half of keep-everything's peak. "Without": no two ops or values count as alike.
`--write` writes results/depth.json and .md beside this file. Exit status 1 where eight times the
layers take more than twelve times as long, or repetition makes an overhead over 1% larger.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

from poet_core.bounds import ram_floor
from poet_core.plan import Problem
from poet_core.simulate import simulate
from poet_solvers import greedy_choice
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.occurrences import StepModel, sequence_schedule, step_model
from poet_solvers.repetition import Repetition
from tests.solvers.gpt_step import gpt_problem

RESULTS = Path(__file__).resolve().parent / "results"
LAYERS = (12, 24, 48, 96)
_SLOWER, _DEARER = 12.0, 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One depth at one budget; overheads are shares of the base energy."""

    layers: int
    ops: int
    budget: str
    seconds_without: float
    seconds_with: float
    overhead_without: float
    overhead_with: float


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and say by the exit status whether depth costs what it should."""
    rows = [_row(layers, budget) for budget in ("floor+5%", "50%") for layers in LAYERS]
    text = table(rows)
    print(text)
    if "--write" in (sys.argv[1:] if arguments is None else arguments):
        (RESULTS / "depth.json").write_text(
            json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8"
        )
        (RESULTS / "depth.md").write_text(text, encoding="utf-8")
    return 0 if _holds(rows) else 1


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| budget | layers | ops | seconds without | with | overhead without | with |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.budget} | {row.layers} | {row.ops} | {row.seconds_without:.2f} | "
        f"{row.seconds_with:.2f} | {row.overhead_without:.3%} | {row.overhead_with:.3%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def _holds(rows: list[Row]) -> bool:
    dearer = any(row.overhead_with > row.overhead_without * (1 + _DEARER) for row in rows)
    by_budget = {row.budget: [one for one in rows if one.budget == row.budget] for row in rows}
    slower = any(
        some[-1].seconds_with > _SLOWER * max(some[0].seconds_with, 0.02)
        for some in by_budget.values()
    )
    return not dearer and not slower


def _row(layers: int, budget: str) -> Row:
    problem = gpt_problem(layers)
    if budget != "50%":
        floor = ram_floor(problem.graph, problem.budget).floor_bytes
        problem = replace(problem, budget=replace(problem.budget, ram_bytes=-(-floor * 105 // 100)))
    with mock.patch.object(greedy_choice, "repetition", _nothing_alike):
        seconds_without, overhead_without = _greedy(problem)
    seconds_with, overhead_with = _greedy(problem)
    return Row(
        layers=layers,
        ops=len(problem.graph.ops),
        budget=budget,
        seconds_without=seconds_without,
        seconds_with=seconds_with,
        overhead_without=overhead_without,
        overhead_with=overhead_with,
    )


def _greedy(problem: Problem) -> tuple[float, float]:
    begun = time.process_time()
    sequence = best_greedy_sequence(problem)
    seconds = time.process_time() - begun
    if sequence is None:
        raise RuntimeError("greedy found no plan where paging is allowed")
    schedule = sequence_schedule(step_model(problem), sequence)
    judgement = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    base = problem.costs.base_joules
    return seconds, (judgement.energy_joules - base) / base


def _nothing_alike(model: StepModel) -> Repetition:
    ops, values = len(model.problem.graph.ops), len(model.table.values)
    return Repetition(op_class=tuple(range(ops)), value_class=tuple(range(values)))


if __name__ == "__main__":
    sys.exit(main())
