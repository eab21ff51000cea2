"""`poet addresses GRAPH PLAN`: offsets in one arena, so that a device without an allocator runs the plan.

Two files are written, the plan with shorter stays first: the addresses are bound to its hash, and
are never there without it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.files import keep_inputs, load_graph, load_plan, write_file
from poet_cli.interruptible import interruptible
from poet_cli.options import json_option
from poet_cli.output import print_json, say, working
from poet_core.errors import UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_core.graph import TrainingGraph
    from poet_core.plan import Budget, Plan
    from poet_solvers.addresses import Addresses

_ABOVE_BUDGET = 1
_INTERRUPTED = 130
_PLAN_NAME = "shifted.plan.json"


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet addresses mlp.graph.json mlp.plan.json -o mlp.addresses.json\n"
    "  poet addresses mlp.graph.json mlp.plan.json --allow-moves --seconds 10",
)
@click.argument("graph", type=click.Path(path_type=Path))
@click.argument("plan", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("addresses.json"),
    show_default=True, help="Where the addresses go; - is standard output.",
)  # fmt: skip
@click.option(
    "--plan-out", type=click.Path(path_type=Path), metavar="FILE",
    help=f"Where the plan of these addresses goes.  [default: {_PLAN_NAME} beside them]",
)  # fmt: skip
@click.option(
    "--allow-moves", is_flag=True,
    help="Copy inside the arena where the peak is not reached without.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0.1, 86400), default=30.0, show_default=True,
    help="Most time for the search, which ends by itself too.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**53 - 1), default=0, show_default=True,
    help="Of the search.",
)  # fmt: skip
@json_option
def addresses(
    graph: Path,
    plan: Path,
    output: Path,
    plan_out: Path | None,
    allow_moves: bool,
    seconds: float,
    seed: int,
    as_json: bool,
) -> None:
    """Give everything that a plan holds in RAM an address in one arena.

    The plan is judged, and its stays in RAM are made shorter where that costs nothing; the addresses
    are those of that plan, and checked. Ctrl-C keeps the lowest arena so far. Exit codes: 0 the
    arena is within the plan's RAM budget, 1 it is above it, or the judge refuses the plan.
    """
    plan_out = plan_out or output.parent / _PLAN_NAME
    keep_inputs([graph, plan], [output, plan_out])
    _refuse_one_file(output, plan_out)
    step, given = load_graph(graph), load_plan(plan)
    from poet_core.plan_document import plan_to_document
    from poet_solvers.addresses import addresses_to_document

    with working("Placing", quiet=as_json):

        def work(cancel: threading.Event) -> tuple[Plan, Addresses]:
            return _placed(step, given, seed, seconds, allow_moves, cancel)

        (short, found), interrupted = interruptible(
            work, "Stopping; the lowest arena so far is kept …"
        )
    _write(plan_out, plan_to_document(short))
    _write(output, addresses_to_document(found, short))
    if as_json:
        print_json(_document(found, short, output, plan_out))
    elif "-" not in (str(output), str(plan_out)):
        click.echo(_line(found, short.budget))
    above = _spare_bytes(found, short.budget) < 0
    if above and not as_json:
        say(_hint(found, short.budget, allow_moves))
    code = _INTERRUPTED if interrupted else _ABOVE_BUDGET if above else 0
    if code:
        raise click.exceptions.Exit(code)


def _placed(
    graph: TrainingGraph,
    plan: Plan,
    seed: int,
    seconds: float,
    allow_moves: bool,
    cancel: threading.Event,
) -> tuple[Plan, Addresses]:
    from poet_solvers.addresses import place, shifted

    short = shifted(graph, plan)  # judges `plan`
    found = place(
        graph,
        short,
        seed=seed,
        seconds=seconds,
        allow_moves=allow_moves,
        clock=lambda: math.inf if cancel.is_set() else time.monotonic(),  # cancelled: time is up
    )
    return short, found


def _refuse_one_file(output: Path, plan_out: Path) -> None:
    try:
        same = output.resolve() == plan_out.resolve()
    except (OSError, RuntimeError, ValueError):  # what cannot be resolved is refused when written
        same = output == plan_out
    if same:
        raise UsageError(
            f"Expected two files, got {printable(str(output))!r} for the addresses and for their plan.",
            code="output_twice",
            hint="Give -o and --plan-out different names.",
        )


def _write(path: Path, document: dict[str, Any]) -> None:
    write_file(path, json.dumps(document, ensure_ascii=True).encode() + b"\n")


def _spare_bytes(found: Addresses, budget: Budget) -> int:
    """What the arena leaves of the RAM budget; below 0 where it is above it."""
    return budget.ram_bytes - budget.reserved_bytes - found.arena_bytes


def _document(found: Addresses, plan: Plan, output: Path, plan_out: Path) -> dict[str, Any]:
    spare_bytes = _spare_bytes(found, plan.budget)
    return {
        "ok": spare_bytes >= 0,
        "addresses": str(output),
        "plan": str(plan_out),
        "arena_bytes": found.arena_bytes,
        "peak_bytes": found.peak_bytes,
        "ratio": found.ratio,
        "ram_bytes": plan.budget.ram_bytes,
        "reserved_bytes": plan.budget.reserved_bytes,
        "spare_bytes": spare_bytes,
        "moves": len(found.moves),
        "moved_bytes": found.moved_bytes,
        "found_by": found.found_by,
    }


def _line(found: Addresses, budget: Budget) -> str:
    from poet_core.units import format_bytes

    spare_bytes = _spare_bytes(found, budget)
    reserved = f" + {budget.reserved_bytes} reserved" if budget.reserved_bytes else ""
    where = "within" if spare_bytes >= 0 else f"{-spare_bytes} bytes above"
    moves = ""
    if found.moves:
        moves = f"; moves: {len(found.moves)}, {found.moved_bytes} bytes copied a step"
    return (
        f"arena {format_bytes(found.arena_bytes)} ({found.arena_bytes} bytes{reserved}), "
        f"{found.ratio:.4f} of the peak, {where} the RAM budget of "
        f"{format_bytes(budget.ram_bytes)}{moves}"
    )


def _hint(found: Addresses, budget: Budget, allow_moves: bool) -> str:
    """Moves, or a budget smaller by the ratio: what the arena takes on top is left for it."""
    room_bytes = budget.ram_bytes - budget.reserved_bytes
    less_bytes = budget.reserved_bytes + room_bytes * room_bytes // found.arena_bytes
    moves = "" if allow_moves else "try --allow-moves, or "
    return f"  hint: {moves}plan with less RAM, such as --ram {less_bytes}B"
