"""`poet train MODULE:FUNCTION`: replay a plan, and set its peak beside the measured one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.commands.trace import set_threads
from poet_cli.files import load_plan
from poet_cli.loading import load_step
from poet_cli.options import chosen_device, device_options, json_option
from poet_cli.output import print_json, print_table, working
from poet_core.errors import UsageError
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_runtime.measured_peak import MeasuredPeak
    from poet_runtime.train_step import TrainStep

# The profiler that measures slows steps down, so only the last ones run under it.
_MEASURED_STEPS = 2
# PyTorch's profiler announces itself on stderr unless its libraries are told not to, before import.
_QUIET = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet train examples.mlp:step --plan mlp.plan.json --steps 20\n"
    "  poet train examples.mlp:step --device host --ram 3MiB",
)
@click.argument("step", metavar="MODULE:FUNCTION")
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), metavar="FILE",
    help="A plan for exactly this step, from `poet plan`.",
)  # fmt: skip
@device_options
@click.option(
    "--ram", "ram_bytes", type=parse_bytes, metavar="SIZE", help="RAM budget, with a unit."
)
@click.option("--server", metavar="URL", help="Plan there; the answer is judged here.")
@click.option("--seconds", "wall_seconds", type=click.FloatRange(0.1, 86400), default=60.0,
              show_default=True, help="Time for the solver.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 10**9), default=10, show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads that PyTorch computes with.")
@click.option(
    "--paging-directory", type=click.Path(path_type=Path), metavar="DIR",
    help="Where the paging file goes.",
)  # fmt: skip
@json_option
def train(
    step: str,
    plan_file: Path | None,
    device: str | None,
    device_file: Path | None,
    ram_bytes: int | None,
    server: str | None,
    wall_seconds: float,
    steps: int,
    threads: int | None,
    paging_directory: Path | None,
    as_json: bool,
) -> None:
    """Train some steps of FUNCTION's model on its own batch, inside the RAM of a plan.

    Give a saved plan, or a device and a budget to plan now. The last steps run under PyTorch's
    profiler: the peak of tensor memory that it sees stands beside the planned one.
    """
    for name, level in _QUIET.items():
        os.environ.setdefault(name, level)
    how = _plan_arguments(plan_file, device, device_file, ram_bytes, server)
    model, loss_fn, optimizer, batch = load_step(step)
    set_threads(threads)
    from poet_runtime.trace import trace
    from poet_runtime.train_step import TrainStep

    with working("Preparing the step", quiet=as_json):
        program = trace(
            model, loss_fn, optimizer, batch, measure_seconds=_is_measured(how), name=step
        )
        train_step = TrainStep(
            model, loss_fn, optimizer, batch, program=program, paging_directory=paging_directory,
            wall_seconds=wall_seconds, **how,
        )  # fmt: skip
    with train_step, working(f"Training {steps} steps", quiet=as_json):
        losses, seconds, measured = _run(train_step, batch, steps)
    result = {
        "steps": steps,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "seconds_per_step": seconds,
        "ram_bytes": train_step.plan.budget.ram_bytes,
        "planned_peak_bytes": train_step.plan.claims.peak_bytes,
        "measured_peak_bytes": measured.peak_bytes,
        "keep_everything_bytes": train_step.summary().keep_everything_bytes,
    }
    if as_json:
        print_json(result)
    else:
        _print(result)


def _plan_arguments(
    plan_file: Path | None,
    device: str | None,
    device_file: Path | None,
    ram_bytes: int | None,
    server: str | None,
) -> dict[str, Any]:
    if plan_file is not None:
        if device is not None or device_file is not None or server is not None:
            raise UsageError(
                "A saved plan carries its device; --device and --server are for a new one.",
                code="plan_and_device",
                hint="Give --plan alone, or --device and --ram.",
            )
        return {"plan": load_plan(plan_file), "ram": ram_bytes}
    return {"device": chosen_device(device, device_file), "ram": ram_bytes, "planner": server}


def _is_measured(how: dict[str, Any]) -> bool:
    """Whether a plan is made now for a device that prefers measured seconds."""
    from poet_core.devices import load_device

    device = how.get("device")
    profile = load_device(device) if isinstance(device, str) else device
    return profile is not None and profile.measured


def _run(step: TrainStep, batch: Any, steps: int) -> tuple[list[float], float, MeasuredPeak]:
    from poet_runtime.measured_peak import measure_peak

    losses: list[float] = []

    def take(count: int) -> None:
        losses.extend(float(step(*batch)) for _ in range(count))

    unmeasured = max(0, steps - _MEASURED_STEPS)
    started = time.perf_counter()
    take(unmeasured)
    seconds = time.perf_counter() - started
    measured = measure_peak(step.reallocate, lambda: take(steps - unmeasured))
    if not unmeasured:
        unmeasured, seconds = steps, time.perf_counter() - started
    return losses, seconds / unmeasured, measured


def _print(result: dict[str, Any]) -> None:
    from poet_core.units import format_bytes, format_seconds

    click.echo(
        f"{result['steps']} steps, {format_seconds(result['seconds_per_step'])} each, "
        f"loss {result['first_loss']:.6g} -> {result['last_loss']:.6g}\n"
    )
    print_table(
        ("tensor memory", "peak"),
        [
            ("everything kept", format_bytes(result["keep_everything_bytes"])),
            ("budget", format_bytes(result["ram_bytes"])),
            ("planned", format_bytes(result["planned_peak_bytes"])),
            ("measured", format_bytes(result["measured_peak_bytes"])),
        ],
        right=("peak",),
    )
