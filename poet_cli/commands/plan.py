"""`poet plan GRAPH --device NAME --ram SIZE -o plan.json`: a plan, judged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, write_file
from poet_cli.interruptible import interruptible
from poet_cli.options import (
    Limit,
    chosen_device,
    chosen_ram,
    device_options,
    joules_limit,
    json_option,
    seconds_limit,
)
from poet_cli.output import print_json, say, working
from poet_cli.server_options import ServerChoice, server_options, taken_server
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_core.plan import Plan
    from poet_core.plan_request import BackendChoice, PlannerChoice, PlanRequest
    from poet_solvers.planner import Progress


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet plan mlp.graph.json --device raspberry-pi-4b --ram 3MiB -o mlp.plan.json\n"
    "  poet plan mlp.graph.json --device nrf52840 --time 1.2x --no-page\n"
    "  poet plan mlp.graph.json --device host --ram 3MiB --server http://127.0.0.1:8080\n"
    "  poet plan mlp.graph.json --device mkr1000 --server https://plans.example --fallback local",
)
@click.argument("graph", type=click.Path(path_type=Path))
@device_options
@click.option(
    "--ram",
    "ram_bytes",
    type=parse_bytes,
    metavar="SIZE",
    help="RAM budget, with a unit; default: all of it.",
)
@click.option("--time", "time_limit", type=seconds_limit, metavar="1.2x|3.5s", help="Longest step.")
@click.option(
    "--energy", "energy_limit", type=joules_limit, metavar="1.2x|3.5J", help="Most energy a step."
)
@click.option(
    "--flash", "flash_bytes", type=parse_bytes, metavar="SIZE", help="Flash that may be used."
)
@click.option(
    "--flash-writes",
    "flash_write_bytes",
    type=parse_bytes,
    metavar="SIZE",
    help="Most bytes written to flash a step.",
)
@click.option(
    "--objective", type=click.Choice(["energy", "time"]), default="energy", show_default=True,
    help="What is minimised.",
)  # fmt: skip
@click.option("--no-page", is_flag=True, help="Never use flash.")
@click.option("--no-rematerialize", is_flag=True, help="Run every op once.")
@click.option("--no-reorder", is_flag=True, help="Keep the order of the graph.")
@server_options
@click.option(
    "--planner", type=click.Choice(["portfolio", "poet-milp"]), default="portfolio", show_default=True,
    help="Every method side by side, or POET's MILP alone.",
)  # fmt: skip
@click.option(
    "--backend", type=click.Choice(["auto", "cbc", "highs", "gurobi"]), default="auto",
    show_default=True,
    help="The MILP solver; gurobi needs gurobipy and a licence.",
)  # fmt: skip
@click.option(
    "--seconds", "wall_seconds", type=click.FloatRange(0.1, 86400), default=60.0, show_default=True,
    help="Time for the solver.",
)  # fmt: skip
@click.option(
    "--patience", "patience_seconds", type=click.FloatRange(0.1, 86400), default=10.0,
    show_default=True, help="Stop when neither plan nor bound got better for so long.",
)  # fmt: skip
@click.option(
    "--write-lp", type=click.Path(path_type=Path), metavar="FILE",
    help="Keep the model that the solver sees.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("plan.json"), show_default=True,
    help="Where the plan goes; - is standard output.",
)  # fmt: skip
@json_option
def plan(
    graph: Path,
    device: str | None,
    device_file: Path | None,
    ram_bytes: int | None,
    time_limit: Limit | None,
    energy_limit: Limit | None,
    flash_bytes: int | None,
    flash_write_bytes: int | None,
    objective: str,
    no_page: bool,
    no_rematerialize: bool,
    no_reorder: bool,
    planner: PlannerChoice,
    backend: BackendChoice,
    wall_seconds: float,
    patience_seconds: float,
    write_lp: Path | None,
    output: Path,
    as_json: bool,
    **where: Any,
) -> None:
    """Plan a traced step inside a device's RAM: keep, page or rematerialize every tensor.

    The plan is judged before it is written. Ctrl-C keeps the best plan so far, here and at a server
    (a second one leaves). Exit codes: 0 it fits, 1 proven not to, 3 no plan found in the time given
    or no server, 130 stopped by Ctrl-C.
    """
    from poet_core.plan import Allowed, Objective
    from poet_core.plan_document import plan_to_document
    from poet_core.plan_request import PlanRequest
    from poet_core.summary import summarize
    from poet_core.verify import verify

    keep_inputs([graph], [output, write_lp])
    server = taken_server(where)
    chosen = chosen_device(device, device_file)
    time_limit, energy_limit = time_limit or Limit(), energy_limit or Limit()
    request = PlanRequest(
        graph=load_graph(graph),
        device=chosen,
        ram_bytes=0,
        time_ratio=time_limit.ratio,
        step_seconds=time_limit.amount,
        energy_ratio=energy_limit.ratio,
        energy_joules=energy_limit.amount,
        flash_bytes=flash_bytes,
        flash_write_bytes=flash_write_bytes,
        objective=Objective(objective),
        allowed=Allowed(
            page=not no_page, rematerialize=not no_rematerialize, reorder=not no_reorder
        ),
        planner=planner,
        backend=backend,
        wall_seconds=wall_seconds,
        patience_seconds=patience_seconds,
    )
    request = _with_ram(request, ram_bytes)
    with working("Planning", quiet=as_json) as tell:
        found, interrupted = make_plan(request, server=server, write_lp=write_lp, tell=tell)
    if write_lp is not None:
        _say_if_not_written(found)
    judgement = verify(request.graph, found)
    document = json.dumps(plan_to_document(found), ensure_ascii=True)
    write_file(output, document.encode() + b"\n")
    summary = summarize(request.graph, found, judgement)
    if as_json:
        how = {"solver": found.planned_by.solver, "status": found.planned_by.status}
        print_json({"ok": True, "plan": str(output), "planner": how} | summary.to_document())
    elif str(output) != "-":
        click.echo(summary.line())
    if interrupted:
        raise KeyboardInterrupt  # the plan is kept, the exit status says that nobody waited for better


def _say_if_not_written(found: Plan) -> None:
    from poet_solvers.portfolio import NOT_WRITTEN

    if found.planned_by.formulation == "keep-everything":
        say("Everything fits, so no solver ran and no model was written.")
    elif NOT_WRITTEN in found.planned_by.status:
        say(found.planned_by.status[found.planned_by.status.index(NOT_WRITTEN) :])


def _with_ram(request: PlanRequest, ram_bytes: int | None) -> PlanRequest:
    from dataclasses import replace

    return replace(request, ram_bytes=chosen_ram(ram_bytes, request.profile))


def make_plan(
    request: PlanRequest,
    *,
    server: ServerChoice | None,
    write_lp: Path | None,
    tell: Callable[[str], None],
) -> tuple[Plan, bool]:
    """The plan of poet_solvers, or of a service, and whether Ctrl-C cut it short."""
    from poet_core.errors import UsageError

    if server is None:
        return _plan_here(request, write_lp, tell)
    if write_lp is not None:
        raise UsageError(
            "--write-lp keeps the model of a solver that runs here; with --server none does.",
            code="write_lp_remote",
            hint="Leave one of them out.",
        )
    from poet_cli.remote import plan_at

    return plan_at(server, request, tell) or _plan_here(request, None, tell)


def _plan_here(
    request: PlanRequest, write_lp: Path | None, tell: Callable[[str], None]
) -> tuple[Plan, bool]:
    """Solve in a thread, so that Ctrl-C reaches the planner as a cancellation."""
    problem = request.problem()  # refused before a solver is loaded
    from poet_solvers.backends import SolveLimits
    from poet_solvers.planner import plan as plan_problem

    def work(cancel: threading.Event) -> Plan:
        return plan_problem(
            problem,
            planner=request.planner,
            backend=request.backend,
            limits=SolveLimits(
                wall_seconds=request.wall_seconds, patience_seconds=request.patience_seconds
            ),
            on_progress=lambda progress: tell(_progress_line(progress, request)),
            cancel=cancel,
            write_lp=write_lp,
        )

    try:
        return interruptible(work, "Stopping; the best plan so far is kept …")
    except OSError as error:
        raise _named_file(error, write_lp) from None


def _progress_line(progress: Progress, request: PlanRequest) -> str:
    """The best plan so far, the bound, and what lies between them."""
    from poet_core.plan import Objective
    from poet_core.units import format_joules, format_seconds

    shown = format_joules if request.objective is Objective.ENERGY else format_seconds
    parts = [progress.message]
    best, bound = progress.incumbent, progress.bound
    if best is not None:
        parts.append(f"best {shown(best)}")
    if bound is not None:
        parts.append(f"bound {shown(bound)}")
    if best and bound is not None:
        parts.append(f"gap {max(0.0, (best - bound) / best):.2%}")
    return ", ".join(parts)


def _named_file(error: BaseException, write_lp: Path | None) -> BaseException:
    """A model that cannot be written is the user's to mend."""
    from poet_core.errors import UsageError
    from poet_core.text import printable

    if write_lp is None or not isinstance(error, OSError) or error.filename != str(write_lp):
        return error
    return UsageError(
        f"Cannot write {printable(str(write_lp))!r}: {error.strerror}.",
        code="file_unwritable",
        hint="Check the folder and its permissions.",
    )
