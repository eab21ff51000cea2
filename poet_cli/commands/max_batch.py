"""`poet max-batch MODULE:FUNCTION --device NAME`: the largest batch whose step fits."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.interruptible import interruptible
from poet_cli.options import (
    Limit,
    chosen_device,
    chosen_ram,
    device_options,
    joules_limit,
    json_option,
    seconds_limit,
    step_argument,
)
from poet_cli.output import print_json, working
from poet_cli.server_options import server_options, taken_server
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_cli.check.entries import Limit as EntryLimit
    from poet_cli.max_batch import BatchAnswer

_NONE_FITS, _UNDECIDED, _INTERRUPTED = 1, 3, 130


@click.command(
    "max-batch",
    epilog="Examples:\n\n"
    "\b\n"
    "  poet max-batch examples.mlp:step --device raspberry-pi-4b --ram 4MiB\n"
    "  poet max-batch examples.resnet:step --device jetson-tx2 --ram 1GiB --max-time 1.2x\n"
    "  poet max-batch models.keyword:step --device nrf52840 --no-page --json | jq .largest_known_to_fit",
)
@step_argument
@device_options
@click.option(
    "--ram", "ram_bytes", type=parse_bytes, metavar="SIZE",
    help="RAM budget, with a unit; default: all of the device's.",
)  # fmt: skip
@click.option(
    "--max-time", type=seconds_limit, metavar="1.2x|3.5s",
    help="Longest step, against keeping everything of that batch, or in seconds.",
)  # fmt: skip
@click.option(
    "--max-energy", type=joules_limit, metavar="1.05x|2J",
    help="Most energy a step, against keeping everything of that batch, or in joules.",
)  # fmt: skip
@click.option("--no-page", is_flag=True, help="Never use flash.")
@click.option("--no-rematerialize", is_flag=True, help="Run every op once.")
@click.option(
    "--limit", "most", type=click.IntRange(1, 1 << 24), default=4096, show_default=True,
    metavar="N", help="The largest batch that is tried.",
)  # fmt: skip
@click.option(
    "--seconds", "planner_seconds", type=click.FloatRange(0.1, 3600), default=10.0,
    show_default=True, help="Time for the planner, for each batch.",
)  # fmt: skip
@click.option(
    "--trace-seconds", type=click.FloatRange(1, 86400), default=300.0, show_default=True,
    help="Most time for building and tracing one batch.",
)  # fmt: skip
@server_options
@json_option
def max_batch(
    step: str,
    device: str | None,
    device_file: Path | None,
    ram_bytes: int | None,
    max_time: Limit | None,
    max_energy: Limit | None,
    no_page: bool,
    no_rematerialize: bool,
    most: int,
    planner_seconds: float,
    trace_seconds: float,
    as_json: bool,
    **where: Any,
) -> None:
    """Find the largest batch whose training step fits.

    FUNCTION takes a batch_size (or batch) and returns (model, loss_fn, optimizer, batch). Sizes
    double until one is proven not to fit, by the RAM floor most often; then the gap is halved.
    Ctrl-C shows what is known. Exit codes: 0 some batch fits, 1 proven that none does, 3 none is
    known to.
    """
    from poet_cli.check.children import work_folder
    from poet_cli.max_batch import BatchQuery, find_largest
    from poet_cli.max_batch_report import answer_document, print_answer
    from poet_core.devices import load_device

    chosen = chosen_device(device, device_file)
    profile = load_device(chosen) if isinstance(chosen, str) else chosen
    query = BatchQuery(
        step=step,
        device=profile,
        ram_bytes=chosen_ram(ram_bytes, profile),
        max_time=_entry_limit(max_time, "s"),
        max_energy=_entry_limit(max_energy, "J"),
        page=not no_page,
        rematerialize=not no_rematerialize,
        planner_seconds=planner_seconds,
        trace_seconds=trace_seconds,
        most=most,
        folder=Path.cwd(),
        server=taken_server(where),
    )
    with working("Looking for the largest batch", quiet=as_json) as tell, work_folder() as work:

        def find(cancel: threading.Event) -> BatchAnswer:
            return find_largest(query, work, cancel, lambda text, now: tell(_progress(text, now)))

        answer, _ = interruptible(find, "Stopping; what is known is shown …")
    if as_json:
        print_json(answer_document(answer))
    else:
        print_answer(answer)
    code = _exit_code(answer)
    if code:
        raise click.exceptions.Exit(code)


def _progress(text: str, now: BatchAnswer) -> str:
    """What is done, and what is known so far."""
    known = now.brackets
    parts = [text]
    if known.fits:
        parts.append(f"{known.fits} fits")
    if known.too_large is not None:
        parts.append(f"{known.too_large} does not")
    return ", ".join(parts)


def _entry_limit(limit: Limit | None, unit: str) -> EntryLimit | None:
    from poet_cli.check.entries import Limit as EntryLimit

    if limit is None:
        return None
    text = f"{limit.ratio:g}x" if limit.ratio is not None else f"{limit.amount:g} {unit}"
    return EntryLimit(text=text, ratio=limit.ratio, absolute=limit.amount)


def _exit_code(answer: BatchAnswer) -> int:
    if answer.cancelled:
        return _INTERRUPTED
    now = answer.brackets
    if now.fits:
        return 0
    return _NONE_FITS if now.too_large == 1 else _UNDECIDED
