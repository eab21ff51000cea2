"""`poet train MODULE:FUNCTION`: replay a plan, here or in a process of its own under a cap.

train                     in this process; planned peak beside the profiler's
train --isolated --cap    in a worker that the kernel bounds; its peaks beside plan and cap
train --demo NAME         eager PyTorch and a plan under one cap
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli import completion
from poet_cli.commands.trace import set_threads
from poet_cli.files import load_plan
from poet_cli.loading import advised, load_step
from poet_cli.options import chosen_device, device_options, json_option
from poet_cli.output import print_json, print_table, working
from poet_cli.planning import InterruptiblePlanner
from poet_cli.remote import ServerPlanner
from poet_cli.server_options import ServerChoice, server_options, taken_server
from poet_cli.worker_options import only_isolated, worker_choices, worker_options
from poet_core.errors import UsageError
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_runtime.memory.measured_peak import MeasuredPeak
    from poet_runtime.train_step import TrainStep

# The profiler that measures slows steps down, so only the last ones run under it.
_MEASURED_STEPS = 2
# PyTorch's profiler announces itself on stderr unless its libraries are told not to, before import.
_QUIET = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
_STEPS, _DEMO_STEPS = 10, 5
_SECONDS = 60.0


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet train examples.mlp:step --plan mlp.plan.json --steps 20\n"
    "  poet train examples.mlp:step --device host --ram 3MiB\n"
    "  poet train examples.bert:step --cap 512MiB --checkpoint runs/bert --checkpoint-every 50\n"
    "  poet train --demo bert --cap 512MiB\n"
    "  poet train --demo bert --small",
)
@click.argument(
    "step", metavar="[MODULE:FUNCTION]", required=False, shell_complete=completion.steps
)
@click.option(
    "--plan", "plan_file", type=click.Path(path_type=Path), metavar="FILE",
    help="A plan for exactly this step, from `poet plan`.",
)  # fmt: skip
@device_options
@click.option(
    "--ram", "ram_bytes", type=parse_bytes, metavar="SIZE", help="RAM budget, with a unit."
)
@server_options
@click.option("--seconds", "wall_seconds", type=click.FloatRange(0.1, 86400),
              help="Time for the solver (default: 60; for a demo, what suits it).")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 10**9), help="Steps (default: 10; for a demo, 5).")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads that PyTorch computes with.")
@worker_options
@click.option(
    "--demo", type=click.Choice(("bert", "resnet", "mlp")),
    help="Instead of FUNCTION: eager PyTorch under a cap, then a plan for it under the same cap.",
)  # fmt: skip
@click.option("--small", is_flag=True, help="A demo of under a minute, with a cap of its own.")
@json_option
def train(step: str | None, as_json: bool, demo: str | None, **chosen: Any) -> None:
    """Train some steps inside the RAM of a plan: FUNCTION's model, on its own batch.

    Give a saved plan, or a device and a budget to plan now. The last steps run under PyTorch's
    profiler: the peak of tensor memory that it sees stands beside the planned one.

    With --isolated or --cap a process of its own trains, which the kernel holds to the cap; with
    --demo, one of three models, beside eager PyTorch under the same cap.
    """
    for name, level in _QUIET.items():
        os.environ.setdefault(name, level)
    chosen["server"] = taken_server(chosen)
    if demo is not None:
        _demo(step, demo, chosen, as_json=as_json)
        return
    if step is None or chosen["small"]:
        raise UsageError(
            "Expected MODULE:FUNCTION, or --demo; --small is for a demo.",
            code="step_missing",
            hint="E.g. poet train examples.mlp:step --device host --ram 3MiB, or --demo bert.",
        )
    if chosen["isolated"] or chosen["cap_bytes"] is not None:
        _isolated(step, chosen, as_json=as_json)
        return
    alone = only_isolated(chosen)
    if alone:
        raise UsageError(
            f"{alone} is for training in a process of its own.",
            code="isolated_only",
            hint="Add --isolated, or --cap SIZE.",
        )
    _here(step, chosen, as_json=as_json)


def _demo(step: str | None, demo: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    from poet_cli.demo import DemoChoices, print_demo, run_demo

    others = ("plan_file", "device", "device_file", "ram_bytes", "server")
    if step is not None or any(chosen[name] is not None for name in others):
        raise UsageError(
            "A demo brings its model, its device and its plan.",
            code="demo_alone",
            hint="Beside --demo give --cap, --small, --steps, --seconds, --threads or flash "
            "options.",
        )
    choices = DemoChoices(
        name=demo,
        small=chosen["small"],
        cap_bytes=chosen["cap_bytes"],
        steps=chosen["steps"] or _DEMO_STEPS,
        threads=chosen["threads"],
        wall_seconds=chosen["wall_seconds"],
        worker=worker_choices(chosen),
    )
    result = run_demo(choices, as_json=as_json)
    if as_json:
        print_json(result)
    else:
        print_demo(result)


def _isolated(step: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    from poet_cli.isolated_command import train_step_isolated
    from poet_cli.isolated_training import print_summary

    chosen = chosen | {"steps": chosen["steps"] or _STEPS}
    chosen["wall_seconds"] = chosen["wall_seconds"] or _SECONDS
    how: dict[str, Any] | None = None
    names = ("plan_file", "device", "device_file", "ram_bytes", "server")
    if any(chosen[name] is not None for name in names) or chosen["cap_bytes"] is None:
        how = _plan_arguments(*(chosen[name] for name in names))
    result = train_step_isolated(step, how, chosen, worker_choices(chosen), quiet=as_json)
    if as_json:
        print_json(result)
    else:
        print_summary(result)


def _here(step: str, chosen: dict[str, Any], *, as_json: bool) -> None:
    names = ("plan_file", "device", "device_file", "ram_bytes", "server")
    how = _plan_arguments(*(chosen[name] for name in names))
    steps = chosen["steps"] or _STEPS
    with advised(step):
        model, loss_fn, optimizer, batch = load_step(step)
    set_threads(chosen["threads"])
    from poet_runtime.tracing.trace import trace
    from poet_runtime.train_step import TrainStep

    with working("Preparing the step", quiet=as_json), advised(step):
        program = trace(
            model, loss_fn, optimizer, batch, measure_seconds=is_measured(how), name=step
        )
        train_step = TrainStep(
            model, loss_fn, optimizer, batch, program=program,
            paging_directory=chosen["paging_directory"],
            wall_seconds=chosen["wall_seconds"] or _SECONDS, **how,
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
    server: ServerChoice | None,
) -> dict[str, Any]:
    if plan_file is not None:
        if device is not None or device_file is not None or server is not None:
            raise UsageError(
                "A saved plan carries its device; --device and --server are for a new one.",
                code="plan_and_device",
                hint="Give --plan alone, or --device and --ram.",
            )
        return {"plan": load_plan(plan_file), "ram": ram_bytes}
    planner = InterruptiblePlanner() if server is None else ServerPlanner(server)
    return {"device": chosen_device(device, device_file), "ram": ram_bytes, "planner": planner}


def is_measured(how: dict[str, Any]) -> bool:
    """Whether a plan is made now for a device that prefers measured seconds."""
    from poet_core.devices import load_device

    device = how.get("device")
    profile = load_device(device) if isinstance(device, str) else device
    return profile is not None and profile.measured


def _run(step: TrainStep, batch: Any, steps: int) -> tuple[list[float], float, MeasuredPeak]:
    from poet_runtime.memory.measured_peak import measure_peak

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
