"""POET's own optima, solved again: every row of the published table, by POET's model and by us.

    python -m benchmarks.published_optima [--by cbc highs portfolio ...] [--wall-seconds 600] [--write]

    cbc, highs, gurobi   POET's model, constraint for constraint, by that solver
    portfolio            `poet_solvers.portfolio.solve` of the same problem under the judge's rules

Progress goes to stderr, the table to stdout; `--write` also writes results/published_optima.json
and .md beside this file. Instances are read from POET_INSTANCES (default ../shared/instances) or
from tests/solvers/instances. Exit status 1 when an answer differs from the published optimum.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from benchmarks.published_rows import ROWS, PublishedRow, load_graph
from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Problem
from poet_solvers.backends import BackendName, SolveLimits, SolveStatus, available_backends
from poet_solvers.poet_published import PublishedSolution, solve_published
from poet_solvers.portfolio import solve
from poet_solvers.published_graph import PublishedGraph
from poet_solvers.published_problem import published_problem

__all__ = [
    "ROWS",
    "Answer",
    "agrees",
    "load_graph",
    "published_answer",
    "row_problem",
    "solve_by_portfolio",
    "solve_row",
]

PORTFOLIO = "portfolio"
RELATIVE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one method says about one row. `proven`: that nothing is cheaper, or that nothing is."""

    by: str
    status: str
    proven: bool
    energy_joules: float | None
    bound_joules: float | None
    peak_bytes: int | None
    seconds: float


def solve_row(
    row: PublishedRow, graph: PublishedGraph, *, backend: BackendName, limits: SolveLimits
) -> PublishedSolution:
    """Solves one row as it was published."""
    return solve_published(
        graph,
        ram_bytes=row.ram_bytes,
        time_ratio=row.time_ratio,
        paging=row.paging,
        rematerialization=row.rematerialization,
        backend=backend,
        limits=limits,
    )


def row_problem(row: PublishedRow, graph: PublishedGraph) -> Problem:
    """The row as a problem under the judge's rules."""
    return published_problem(
        graph,
        ram_bytes=row.ram_bytes,
        time_ratio=row.time_ratio,
        paging=row.paging,
        rematerialization=row.rematerialization,
        name=row.graph,
    )


def solve_by_portfolio(
    row: PublishedRow, graph: PublishedGraph, *, backend: BackendName, limits: SolveLimits
) -> Answer:
    """What the portfolio says about a row; it must prove what it says."""
    started = time.monotonic()
    try:
        solution = solve(row_problem(row, graph), limits, backend=backend)
    except (BudgetError, PlanningError) as error:
        nothing = isinstance(error, BudgetError) or error.code == "none_in_this_model"
        return Answer(
            by=PORTFOLIO,
            status=error.code,
            proven=nothing,
            energy_joules=None,
            bound_joules=None,
            peak_bytes=None,
            seconds=round(time.monotonic() - started, 3),
        )
    return Answer(
        by=PORTFOLIO,
        status=f"{solution.ending.name}, found by {solution.found_by}",
        proven=solution.ending.proven,
        energy_joules=solution.cost,
        bound_joules=solution.bound.value,
        peak_bytes=solution.judgement.peak_bytes,
        seconds=round(time.monotonic() - started, 3),
    )


def published_answer(solution: PublishedSolution) -> Answer:
    """A solver's answer to POET's model."""
    return Answer(
        by=solution.backend.backend,
        status=solution.status.name,
        proven=solution.status in (SolveStatus.OPTIMAL, SolveStatus.INFEASIBLE),
        energy_joules=solution.energy_joules,
        bound_joules=solution.bound_joules,
        peak_bytes=solution.peak_bytes,
        seconds=round(solution.backend.seconds, 3),
    )


def agrees(row: PublishedRow, answer: Answer) -> bool:
    """Whether a proven answer equals the published one to 1e-6 relative."""
    if not answer.proven:
        return False
    if row.optimum_joules is None or answer.energy_joules is None:
        return row.optimum_joules is answer.energy_joules
    off = abs(answer.energy_joules - row.optimum_joules)
    return off <= RELATIVE_TOLERANCE * row.optimum_joules


def main(arguments: list[str] | None = None) -> int:
    """Solves the rows and prints the table."""
    options = _options(arguments)
    limits = SolveLimits(wall_seconds=options.wall_seconds, threads=1)
    table: list[tuple[PublishedRow, list[Answer]]] = []
    for row in ROWS:
        graph = load_graph(row.graph)
        if graph is None:
            print(f"{row.title}: no such instance here", file=sys.stderr)
            continue
        answers = [_answer(row, graph, method, limits) for method in options.by]
        table.append((row, answers))
        print(f"{row.title}: {'; '.join(_cell(row, one) for one in answers)}", file=sys.stderr)
    text = _markdown(table)
    print(text)
    if options.write:
        _write(table, text)
    return 0 if all(agrees(row, one) for row, answers in table for one in answers) else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = [*available_backends(), PORTFOLIO]
    parser.add_argument("--by", nargs="+", choices=known, default=["cbc", "highs", PORTFOLIO])
    parser.add_argument("--wall-seconds", type=float, default=600.0, help="limit for one answer")
    parser.add_argument("--write", action="store_true", help="write the result files")
    return parser.parse_args(arguments)


def _answer(row: PublishedRow, graph: PublishedGraph, method: str, limits: SolveLimits) -> Answer:
    if method == PORTFOLIO:
        return solve_by_portfolio(row, graph, backend="highs", limits=limits)
    backend = cast(BackendName, method)
    return published_answer(solve_row(row, graph, backend=backend, limits=limits))


def _cell(row: PublishedRow, answer: Answer) -> str:
    found = answer.status if answer.energy_joules is None else f"{answer.energy_joules:.12g}"
    differs = "" if agrees(row, answer) else f" DIFFERS ({answer.status})"
    return f"{found}, {answer.seconds:.2f} s{differs}"


def _markdown(table: list[tuple[PublishedRow, list[Answer]]]) -> str:
    names = [answer.by for answer in table[0][1]] if table else []
    heads = [name if name == PORTFOLIO else f"POET's model, {name}" for name in names]
    lines = [
        f"| graph | RAM bytes | mode | published J | {' | '.join(heads)} |",
        "|---" * (4 + len(heads)) + "|",
    ]
    for row, answers in table:
        optimum = "infeasible" if row.optimum_joules is None else f"{row.optimum_joules:.9g}"
        cells = " | ".join(_cell(row, answer) for answer in answers)
        lines.append(f"| {row.graph} | {row.ram_bytes} | {row.mode} | {optimum} | {cells} |")
    lines.append("")
    for number, head in enumerate(heads):
        agreeing = sum(agrees(row, answers[number]) for row, answers in table)
        slowest = max(answers[number].seconds for _, answers in table)
        lines.append(
            f"- {head}: {agreeing} of {len(table)} proven and equal to the published optimum to "
            f"{RELATIVE_TOLERANCE:g} relative; the slowest took {slowest:.2f} s."
        )
    lines.append(f"- {len(ROWS) - len(table)} of {len(ROWS)} rows skipped: no instance file.")
    return "\n".join(lines)


def _write(table: list[tuple[PublishedRow, list[Answer]]], text: str) -> None:
    folder = Path(__file__).resolve().parent / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "skipped_rows": len(ROWS) - len(table),
        "rows": [
            {
                "row": asdict(row),
                "answers": [{**asdict(one), "agrees": agrees(row, one)} for one in answers],
            }
            for row, answers in table
        ],
    }
    json_path = folder / "published_optima.json"
    json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    title = (
        "# POET's own optima, solved again\n\nBy `python -m benchmarks.published_optima --write`"
    )
    markdown = f"{title} on {os.cpu_count()} CPUs, one thread each.\n\n{text}\n"
    (folder / "published_optima.md").write_text(markdown, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
