"""`poet least-ram GRAPH --device NAME --overhead 5%`: the least RAM at a cost, with its plan."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, write_file
from poet_cli.interruptible import interruptible
from poet_cli.least_ram_at_server import LeastRamQuery, least_ram_at
from poet_cli.options import json_option
from poet_cli.output import print_json, safe, working
from poet_cli.problem_options import Asked, problem_options
from poet_cli.server_options import server_options, taken_server
from poet_core.errors import UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_solvers.least_ram import LeastRam

_INTERRUPTED = 130


def parse_overhead(text: str) -> float:
    """The share in `5%`, or in `1.05x`. Raises UsageError (`overhead_invalid`)."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(%|x)", text.strip())
    share = -1.0
    if match is not None:
        number = float(match.group(1))
        share = number / 100 if match.group(2) == "%" else number - 1
    if share < 0:
        raise UsageError(
            f"Expected an overhead such as 5% or 1.05x, got {printable(text, 40)!r}.",
            code="overhead_invalid",
            hint="5% and 1.05x both allow 5% more than keeping everything; 0% allows nothing.",
        )
    return share


@click.command(
    "least-ram",
    epilog="Examples:\n\n"
    "\b\n"
    "  poet least-ram mlp.graph.json --device raspberry-pi-4b --overhead 5%\n"
    "  poet least-ram mlp.graph.json --device nrf52840 --overhead 0% --objective time\n"
    "  poet least-ram mlp.graph.json --device nrf52840 --overhead 5% --server http://127.0.0.1:8080",
)
@click.argument("graph", type=click.Path(path_type=Path))
@problem_options
@click.option(
    "--overhead", type=parse_overhead, metavar="5%|1.05x", required=True,
    help="Most that the step may cost on top of keeping everything.",
)  # fmt: skip
@click.option(
    "--seconds", "wall_seconds", type=click.FloatRange(0.1, 86400), default=60.0, show_default=True,
    help="Time for the whole query.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("plan.json"), show_default=True,
    help="Where the plan goes; - is standard output.",
)  # fmt: skip
@server_options
@json_option
def least_ram(
    graph: Path,
    overhead: float,
    wall_seconds: float,
    output: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Find the least RAM whose plan costs at most so much more energy (or time) than keeping
    everything.

    Ctrl-C stops it and keeps the best plan so far. Exit codes: 0 the device has that much RAM, 1
    proven that it has not enough, 3 it has not, and less may do.
    """
    from poet_core.plan_document import plan_to_document

    keep_inputs([graph], [output])
    server = taken_server(asked)
    request = Asked(**asked).request(load_graph(graph))
    device_bytes = request.problem().budget.ram_bytes
    query = LeastRamQuery(request=request, overhead=overhead, wall_seconds=wall_seconds)
    with working("Looking for the least RAM", quiet=as_json) as tell:
        result = None if server is None else least_ram_at(server, query, tell)
        found, interrupted = result or _find_here(query, tell)
    document = json.dumps(plan_to_document(found.plan), ensure_ascii=True)
    write_file(output, document.encode() + b"\n")
    if as_json:
        print_json(_document(found, output, device_bytes))
    elif str(output) != "-":
        _show(found, str(request.objective), device_bytes)
    code = _INTERRUPTED if interrupted else _verdict(found, device_bytes)
    if code:
        raise click.exceptions.Exit(code)


def _find_here(query: LeastRamQuery, tell: Callable[[str], None]) -> tuple[LeastRam, bool]:
    """The least RAM found, and whether Ctrl-C cut it short."""
    from poet_solvers.backends import SolveLimits
    from poet_solvers.least_ram import least_ram as find

    def work(cancel: threading.Event) -> LeastRam:
        return find(
            query.request.problem(),
            overhead=query.overhead,
            limits=SolveLimits(wall_seconds=query.wall_seconds),
            backend=query.request.backend,
            on_progress=lambda now: tell(now.message),
            cancel=cancel,
        )

    return interruptible(work, "Stopping; the best plan so far is kept …")


def _verdict(found: LeastRam, device_bytes: int) -> int:
    if found.ram_bytes <= device_bytes:
        return 0
    return 1 if found.proven_above_bytes >= device_bytes else 3


def _document(found: LeastRam, output: Path, device_bytes: int) -> dict[str, Any]:
    claims = found.plan.claims
    return {
        "ok": found.ram_bytes <= device_bytes,
        "plan": str(output),
        "ram_bytes": found.ram_bytes,
        "objective": str(found.plan.objective),
        "overhead_allowed": found.overhead,
        "overhead": _over(found.plan.objective_value, found.base_cost),
        "energy_joules": claims.energy_joules,
        "step_seconds": claims.step_seconds,
        "proven_above_bytes": found.proven_above_bytes,
        "too_small": [
            {
                "ram_bytes": one.ram_bytes,
                "holds_for": str(one.holds_for),
                "by": one.by,
                "least_cost": one.least_cost,
            }
            for one in found.too_small
        ],
        "ending": found.ending.name.lower(),
        "tries": len(found.tries),
        "keep_everything_bytes": found.keep.peak_bytes,
        "floor_bytes": found.floor.floor_bytes,
        "device_ram_bytes": device_bytes,
        "wall_seconds": found.wall_seconds,
    }


def _over(value: float, base: float) -> float:
    return value / base - 1 if base > 0 else 0.0


def _show(found: LeastRam, objective: str, device_bytes: int) -> None:
    from poet_core.units import format_bytes

    share = found.ram_bytes / max(1, found.keep.peak_bytes)
    click.echo(
        f"least RAM found: {format_bytes(found.ram_bytes)} ({found.ram_bytes} bytes, {share:.1%} of "
        f"everything kept), {100 * _over(found.plan.objective_value, found.base_cost):+.3g}% "
        f"{objective} of {100 * found.overhead:.3g}% allowed"
    )
    for one in found.too_small:
        click.echo(
            f"too little: {format_bytes(one.ram_bytes)} ({one.ram_bytes} bytes), "
            f"{_SPEAKS_OF[str(one.holds_for)]}: {safe(one.by, 200)}"
        )
    click.echo(found.ending.sentence)
    if found.ram_bytes > device_bytes:
        click.echo(f"The device has {format_bytes(device_bytes)}.")


_SPEAKS_OF = {"any_order": "proven for every order", "given_order": "proven for the given order"}
