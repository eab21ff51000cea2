"""`poet train --demo NAME`: eager PyTorch and a plan under one cap, one after the other.

    eager    in a process under the cap: killed, as a rule, with the peak that the kernel saw
    plan     traced and planned here for what the cap leaves
    train    in a worker under the same cap, with the same weights and batches

Invariant: nothing is claimed that was not measured in this run.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from poet_cli import demo_eager, demo_steps
from poet_cli.caps import can_enforce, plan_for_cap
from poet_cli.isolated_training import Job, WorkerChoices, size, train_isolated, units_of
from poet_cli.output import print_table, say, working
from poet_cli.planning import planned_for_time
from poet_core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from poet_cli.demo_eager import EagerEnd
    from poet_runtime.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoChoices:
    """A demo, from the command line; None for what is usual."""

    name: str
    small: bool
    cap_bytes: int | None
    steps: int
    threads: int | None
    wall_seconds: float | None
    worker: WorkerChoices


def run_demo(choices: DemoChoices, *, as_json: bool) -> dict[str, Any]:
    """Runs it, saying what it does; the result as JSON values."""
    import torch

    from poet_cli.loading import require_torch

    require_torch()
    choices.worker.check_place()
    threads = choices.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    terms = demo_steps.terms(choices.name, small=choices.small)
    cap_bytes = choices.cap_bytes or terms.cap_mib << 20
    demo = demo_steps.build(choices.name, small=choices.small)
    why_not = can_enforce()

    def tell(text: str) -> None:
        if not as_json:
            say(text)

    tell(f"Demo: {demo.what}, {choices.steps} steps, {_threads(threads)}.")
    tell(f"Data: {demo.data}.")
    if why_not:
        tell(f"No cap can be enforced here, so {format_bytes(cap_bytes)} only sizes the plan.")
        tell(f"  {why_not}")
    else:
        tell(
            f"First eager PyTorch in a process that the kernel lets have {format_bytes(cap_bytes)}, "
            "then a plan for it under the same cap."
        )
    tell(f"It takes about {_duration(terms.seconds)} on one thread of a laptop.\n")
    eager = None if why_not else _eager(choices, cap_bytes, threads, tell, quiet=as_json)
    capped = _plan(choices, demo, terms, cap_bytes, enforced=not why_not, quiet=as_json)
    unit, count = units_of(demo.batch_of(0))
    job = Job(
        model=demo.model, optimizer=demo.optimizer, program=capped.program, plan=capped.plan,
        batch_of=demo.batch_of, unit=unit, count=count, steps=choices.steps,
        cap_bytes=None if why_not else cap_bytes,
    )  # fmt: skip
    claims = capped.plan.claims
    tell(
        f"Planned: peak {format_bytes(claims.peak_bytes)}, "
        f"{format_bytes(claims.flash_bytes_written)} written to flash a step, "
        f"about {format_seconds(claims.step_seconds)} a step; "
        f"{format_bytes(capped.worker_bytes)} of the cap are the worker's own.\n"
    )
    result = train_isolated(job, choices.worker, quiet=as_json, counted=not why_not)
    result |= {
        "demo": choices.name,
        "what": demo.what,
        "data": demo.data,
        "cap_enforced": not why_not,
        "cap_bytes": cap_bytes,
        "worker_bytes": capped.worker_bytes,
        "planned_step_seconds": claims.step_seconds,
        "eager": None if eager is None else _eager_document(eager, count),
    }
    return result


def print_demo(result: dict[str, Any]) -> None:
    """Both, side by side."""
    eager = result["eager"]
    rows = [
        ("outcome", _outcome(eager), f"{result['steps']} steps trained"),
        ("whole process, by the kernel", _eager_size(eager), size(result["process_peak_bytes"])),
        ("cap", *_caps(result)),
        ("planned peak of the step", "", size(result["planned_peak_bytes"])),
        ("arena's peak", "", size(result["arena_peak_bytes"])),
        ("everything kept would be", "", size(result["keep_everything_bytes"])),
        ("seconds a step", _number(eager, "seconds_per_step"), _figure(result["seconds_per_step"])),
        (result["unit"], _number(eager, "rate"), _figure(result["rate"])),
        ("loss", _losses(eager), _losses(result)),
        ("written to flash a step", "", size(result["flash_written_per_step_bytes"])),
        (
            "transfers hidden",
            "",
            "" if result["io_hidden"] is None else f"{result['io_hidden']:.0%}",
        ),
    ]
    click.echo("")
    print_table(("", "eager PyTorch", "planned"), rows, right=("eager PyTorch", "planned"))
    for reason in result["not_bound"]:
        click.echo(f"not bound: {reason}")


def _eager(
    choices: DemoChoices, cap_bytes: int, threads: int, tell: Any, *, quiet: bool
) -> EagerEnd:
    with working("Eager PyTorch under the cap", quiet=quiet):
        ended = demo_eager.run(
            choices.name, small=choices.small, steps=choices.steps, threads=threads,
            cap_bytes=cap_bytes, said=tell,
        )  # fmt: skip
    peak = "" if ended.peak_bytes is None else f" The kernel saw {format_bytes(ended.peak_bytes)}."
    if ended.killed:
        when = f"in step {len(ended.losses) + 1}" if ended.losses else "before it finished a step"
        tell(f"Eager PyTorch: KILLED by the kernel after {ended.seconds:.1f} s, {when}.{peak}\n")
    else:
        tell(f"Eager PyTorch was not killed: it fits in {format_bytes(cap_bytes)}.{peak}\n")
    return ended


def _plan(
    choices: DemoChoices,
    demo: demo_steps.DemoStep,
    terms: demo_steps.Terms,
    cap_bytes: int,
    *,
    enforced: bool,
    quiet: bool,
) -> Any:
    from poet_runtime.step_options import StepOptions
    from poet_runtime.tracing.trace import trace

    batch = demo.batch_of(0)

    def traced(*, measured: bool, split_above_bytes: int | None) -> Program:
        return trace(
            demo.model, demo.loss_fn, demo.optimizer, batch, name=choices.name,
            measure_workspace=measured, measure_seconds=measured,
            options=StepOptions(split_above_bytes=split_above_bytes),
        )  # fmt: skip

    seconds = choices.wall_seconds or terms.planning_seconds
    with working("Tracing", quiet=quiet) as renew:
        return plan_for_cap(
            traced,
            lambda program, budget: planned_for_time(
                program, budget, seconds, choices.worker.paging_directory
            ),
            cap_bytes,
            say=_both(renew, quiet=quiet),
            enforced=enforced,
        )


def _both(renew: Any, *, quiet: bool) -> Any:
    """Progress: in the line that renews itself, or a line each where no terminal is."""
    import sys

    def tell(text: str) -> None:
        renew(text)
        if not quiet and not sys.stderr.isatty():
            say(text)

    return tell


def _eager_document(ended: EagerEnd, count: int) -> dict[str, Any]:
    later = ended.step_seconds[1:] or ended.step_seconds
    typical = statistics.median(later) if later else None
    return {
        "killed": ended.killed,
        "peak_bytes": ended.peak_bytes,
        "steps": len(ended.losses),
        "seconds_per_step": typical,
        "rate": count / typical if typical else None,
        "first_loss": ended.losses[0] if ended.losses else None,
        "last_loss": ended.losses[-1] if ended.losses else None,
    }


def _outcome(eager: dict[str, Any] | None) -> str:
    if eager is None:
        return "not run: no cap here"
    return "killed by the kernel" if eager["killed"] else f"{eager['steps']} steps: it fits"


def _eager_size(eager: dict[str, Any] | None) -> str:
    return "" if eager is None else size(eager["peak_bytes"])


def _caps(result: dict[str, Any]) -> tuple[str, str]:
    cap = format_bytes(result["cap_bytes"])
    return (cap, cap) if result["cap_enforced"] else ("", f"{cap}, not enforced")


def _number(eager: dict[str, Any] | None, key: str) -> str:
    return "" if eager is None else _figure(eager[key])


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _losses(result: dict[str, Any] | None) -> str:
    if result is None or result["first_loss"] is None:
        return ""
    return f"{result['first_loss']:.4f} -> {result['last_loss']:.4f}"


def _threads(threads: int) -> str:
    return f"{threads} thread" + "s" * (threads > 1)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 100 else f"{seconds:.0f} seconds"
