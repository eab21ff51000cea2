"""`poet frontier GRAPH --device NAME`: RAM against energy and time, one judged plan a budget."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, write_file
from poet_cli.frontier_at_server import ServerSweep, frontier_at
from poet_cli.interruptible import interruptible
from poet_cli.options import json_option
from poet_cli.output import print_json, say, working
from poet_cli.problem_options import Asked, problem_options
from poet_cli.server_options import server_options, taken_server
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_core.plan import Problem
    from poet_core.plan_request import PlanRequest
    from poet_solvers.frontier import Frontier
    from poet_solvers.frontier_points import FrontierPoint

_INTERRUPTED = 130


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet frontier mlp.graph.json --device raspberry-pi-4b\n"
    "  poet frontier mlp.graph.json --device nrf52840 --ram 64KiB --ram 96KiB --no-page\n"
    "  poet frontier mlp.graph.json --device jetson-tx2 --resume --plot frontier.svg\n"
    "  poet frontier mlp.graph.json --device jetson-tx2 --server http://127.0.0.1:8080",
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
@server_options
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
    server = taken_server(asked)
    request = replace(Asked(**asked).request(load_graph(graph)), wall_seconds=wall_seconds)
    budgets = _budgets(request.problem(), points, ram_bytes)
    found = None
    if server is not None:
        _refuse_local(
            {"--jobs": jobs, "--moves": moves, "--seed": seed, "--total-seconds": total_seconds}
        )
        with working(f"0 of {len(budgets)} budgets", quiet=as_json) as tell:
            sweep = ServerSweep(request=request, budgets=budgets, store=output, resume=resume)
            found = frontier_at(server, sweep, tell)
    if found is None:
        here = _Here(
            wall_seconds=wall_seconds,
            total_seconds=total_seconds,
            jobs=jobs,
            moves=moves,
            seed=seed,
            store=output,
            resume=resume,
        )
        found = _frontier_here(request, budgets, here, quiet=as_json)
    points_found, interrupted = found
    for warning in points_found.warnings:
        say(f"warning: {warning}")
    _write(points_found, request.graph.name, plans, plot)
    _show(points_found, output, as_json)
    code = _INTERRUPTED if interrupted else _verdict(points_found)
    if code:
        raise click.exceptions.Exit(code)


def _refuse_local(options: dict[str, Any]) -> None:
    """Options that say how this machine works."""
    from poet_core.errors import UsageError

    for name, value in options.items():
        if value:
            raise UsageError(
                f"{name} says how to plan here; with --server nothing is planned here.",
                code="option_is_local",
                hint="Leave one of them out.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Here:
    """How to plan on this machine."""

    wall_seconds: float
    total_seconds: float | None
    jobs: int | None
    moves: int | None
    seed: int
    store: Path
    resume: bool


def _frontier_here(
    request: PlanRequest, budgets: tuple[int, ...], how: _Here, *, quiet: bool
) -> tuple[Frontier, bool]:
    """The frontier, and whether Ctrl-C cut it short."""
    jobs = min(how.jobs or _cpus(), len(budgets))
    from poet_solvers.backends import SolveLimits
    from poet_solvers.frontier import frontier as find
    from poet_solvers.frontier_work import process_pool

    limits = SolveLimits(
        wall_seconds=how.wall_seconds, threads=max(1, _cpus() // jobs), moves=how.moves,
        seed=how.seed,
    )  # fmt: skip
    from poet_cli.frontier_report import progress_line

    done: set[int] = set()

    with working(f"0 of {len(budgets)} budgets", quiet=quiet) as tell:

        def heard(point: FrontierPoint) -> None:
            done.add(point.ram_bytes)
            tell(progress_line(len(done), len(budgets), point))

        def work(cancel: threading.Event) -> Frontier:
            with process_pool(jobs) if jobs > 1 else contextlib.nullcontext() as executor:
                return find(
                    request.problem(),
                    ram_bytes=budgets,
                    limits=limits,
                    total_seconds=how.total_seconds,
                    backend=request.backend,
                    executor=executor,
                    jobs=jobs,
                    store=how.store,
                    resume=how.resume,
                    on_point=heard,
                    cancel=cancel,
                )

        return interruptible(work, "Stopping; what is finished is kept …")


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
