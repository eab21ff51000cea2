"""`poet frontier GRAPH --device NAME`: RAM against energy and time, one judged plan a budget."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, write_file
from poet_cli.interruptible import interruptible
from poet_cli.options import json_option
from poet_cli.output import print_json, say, working
from poet_cli.problem_options import Asked, problem_options
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_core.plan import Problem
    from poet_solvers.frontier import Frontier
    from poet_solvers.frontier_points import FrontierPoint

_INTERRUPTED = 130


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet frontier mlp.graph.json --device raspberry-pi-4b\n"
    "  poet frontier mlp.graph.json --device nrf52840 --ram 64KiB --ram 96KiB --no-page\n"
    "  poet frontier mlp.graph.json --device jetson-tx2 --resume --plot frontier.svg",
)
@click.argument("graph", type=click.Path(path_type=Path))
@problem_options
@click.option(
    "--points", type=click.IntRange(1, 200), metavar="N", default=12, show_default=True,
    help="How many RAM budgets, from what everything kept takes down to the floor.",
)  # fmt: skip
@click.option(
    "--ram", "ram_bytes", type=parse_bytes, metavar="SIZE", multiple=True,
    help="A RAM budget, with a unit; may be given more than once.",
)  # fmt: skip
@click.option(
    "--seconds", "wall_seconds", type=click.FloatRange(0.1, 86400), default=10.0, show_default=True,
    help="Time for each budget.",
)  # fmt: skip
@click.option(
    "--total-seconds", type=click.FloatRange(0.1, 864000), metavar="S",
    help="Time for all of them.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(1, 256), metavar="N",
    help="Budgets at a time, each in a process; default: the number of CPUs.",
)  # fmt: skip
@click.option(
    "--moves", type=click.IntRange(1), metavar="N",
    help="Moves of each local search: the same plans every time.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the search.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("frontier.jsonl"),
    show_default=True, help="Where finished plans are kept, one a line.",
)  # fmt: skip
@click.option("--resume", is_flag=True, help="Take finished budgets from there; judge them again.")
@click.option(
    "--plans", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Write every budget's plan there, for `poet train --plan`.",
)  # fmt: skip
@click.option(
    "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write the picture, an SVG."
)
@json_option
def frontier(
    graph: Path,
    points: int,
    ram_bytes: tuple[int, ...],
    wall_seconds: float,
    total_seconds: float | None,
    jobs: int | None,
    moves: int | None,
    seed: int,
    output: Path,
    resume: bool,
    plans: Path | None,
    plot: Path | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Plan a step at many RAM budgets: what does less RAM cost in energy and time?

    Ctrl-C stops it; what is finished is shown and kept, and --resume goes on from there. Exit codes:
    0 some budget has a plan, 1 proven that none has, 3 none found in the time given.
    """
    keep_inputs([graph], [output, plot])
    request = Asked(**asked).request(load_graph(graph))
    problem = request.problem()
    budgets = _budgets(problem, points, ram_bytes)
    jobs = min(jobs or _cpus(), len(budgets))
    from poet_solvers.backends import SolveLimits
    from poet_solvers.frontier import frontier as find
    from poet_solvers.frontier_work import process_pool

    limits = SolveLimits(
        wall_seconds=wall_seconds, threads=max(1, _cpus() // jobs), moves=moves, seed=seed
    )
    done: set[int] = set()

    with working(f"0 of {len(budgets)} budgets", quiet=as_json) as tell:

        def heard(point: FrontierPoint) -> None:
            done.add(point.ram_bytes)
            tell(f"{len(done)} of {len(budgets)} budgets")

        def work(cancel: threading.Event) -> Frontier:
            with process_pool(jobs) if jobs > 1 else contextlib.nullcontext() as executor:
                return find(
                    problem,
                    ram_bytes=budgets,
                    limits=limits,
                    total_seconds=total_seconds,
                    backend=request.backend,
                    executor=executor,
                    jobs=jobs,
                    store=output,
                    resume=resume,
                    on_point=heard,
                    cancel=cancel,
                )

        found, interrupted = interruptible(work, "Stopping; what is finished is kept …")
    for warning in found.warnings:
        say(f"warning: {warning}")
    _write(found, request.graph.name, plans, plot)
    _show(found, output, as_json)
    code = _INTERRUPTED if interrupted else _verdict(found)
    if code:
        raise click.exceptions.Exit(code)


def _budgets(problem: Problem, points: int, ram_bytes: tuple[int, ...]) -> tuple[int, ...]:
    """The budgets, none above the device's RAM (which is what `problem` has). Raises UsageError."""
    from poet_core.errors import UsageError
    from poet_core.units import format_bytes
    from poet_solvers.frontier_points import default_budgets

    most = problem.budget.ram_bytes
    if not ram_bytes:
        return default_budgets(problem, points, most_bytes=most)
    if max(ram_bytes) > most:
        raise UsageError(
            f"The RAM budget of {max(ram_bytes)} bytes is more than the device has: {most} bytes "
            f"({format_bytes(most)}).",
            code="ram_above_device",
            hint=f"Give at most {most} bytes, or another device.",
        )
    return tuple(sorted(set(ram_bytes), reverse=True))


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _write(found: Frontier, name: str, folder: Path | None, plot: Path | None) -> None:
    from poet_core.plan_document import plan_to_document

    if plot is not None:
        from poet_cli.frontier_picture import frontier_picture

        write_file(plot, frontier_picture(found, name).encode())
    if folder is None:
        return
    with contextlib.suppress(OSError):  # write_file says what is wrong
        folder.mkdir(parents=True, exist_ok=True)
    for point in found.points:
        if point.plan is not None:
            document = json.dumps(plan_to_document(point.plan), ensure_ascii=True)
            write_file(folder / f"{point.ram_bytes}.plan.json", document.encode() + b"\n")


def _show(found: Frontier, output: Path, as_json: bool) -> None:
    from poet_cli.frontier_report import frontier_document, print_frontier

    if as_json:
        print_json({"ok": bool(found.front), "store": str(output)} | frontier_document(found))
    else:
        print_frontier(found)


def _verdict(found: Frontier) -> int:
    from poet_solvers.frontier_points import PointEnding

    if found.front:
        return 0
    return 1 if all(one.ending is PointEnding.IMPOSSIBLE for one in found.points) else 3
