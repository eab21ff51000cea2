"""Training in a worker, as the command line does it: steps, what is shown, and the summary.

Invariant: whatever ends the training (the last step, an error, Ctrl-C), the worker is gone and so
are its files when the function returns or raises.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.live import Figures, screen
from poet_cli.output import print_table, safe, say
from poet_core.errors import UsageError
from poet_core.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from poet_core.plan import Plan
    from poet_runtime.isolated.step import IsolatedStep
    from poet_runtime.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChoices:
    """How the worker uses flash and checkpoints, from the command line."""

    paging_directory: Path | None = None
    paging_file: Path | None = None
    checksums: str | None = None
    endurance_bytes: int | None = None
    checkpoint: Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False

    def check(self) -> None:
        """Raises UsageError (`checkpoint_missing`)."""
        if self.checkpoint is None and (self.resume or self.checkpoint_every is not None):
            raise UsageError(
                "Expected --checkpoint PATH beside --checkpoint-every and --resume.",
                code="checkpoint_missing",
                hint="Checkpoints go to PATH.0 and PATH.1.",
            )

    def check_place(self) -> None:
        """Raises UsageError where the paging file may not lie; before anything that takes long."""
        from poet_runtime.flash.paging_directory import choose_paging_place
        from poet_runtime.flash.paging_file import FlashOptions

        choose_paging_place(self.paging_directory, FlashOptions(file=self.paging_file))

    def arguments(self) -> dict[str, Any]:
        """For IsolatedStep."""
        from poet_runtime.flash.checksums import Checksums
        from poet_runtime.flash.paging_file import FlashOptions

        kind = None if self.checksums is None else Checksums[self.checksums.upper()]
        return {
            "paging_directory": self.paging_directory,
            "flash": FlashOptions(
                file=self.paging_file, checksums=kind, endurance_bytes=self.endurance_bytes
            ),
            "checkpoint_path": self.checkpoint,
            "checkpoint_every": self.checkpoint_every,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained. `batch_of`: the batch of a step, counted from 0; `unit` and `count`: what a
    batch holds, "tokens" or "samples", and how many. `cap_bytes`: None for no limit."""

    model: Any
    optimizer: Any
    program: Program
    plan: Plan
    batch_of: Callable[[int], Any]
    unit: str
    count: int
    steps: int
    cap_bytes: int | None


def units_of(batch: tuple[Any, ...]) -> tuple[str, int]:
    """What a batch holds and how many: tokens where its first tensor is of whole numbers by
    sequence, samples else."""
    first = batch[0]
    if not first.is_floating_point() and first.dim() > 1:
        return "tokens", first.numel()
    return "samples", int(first.shape[0]) if first.dim() else 1


def train_isolated(
    job: Job, choices: WorkerChoices, *, quiet: bool, counted: bool
) -> dict[str, Any]:
    """Trains; returns what is to be said of it, as JSON values. `counted`: have the kernel count
    what the worker takes also without a cap. Raises what IsolatedStep does."""
    from poet_runtime.isolated.step import IsolatedStep

    step = IsolatedStep(
        job.model, job.optimizer, job.program, job.plan, job.batch_of(0),
        cap_bytes=job.cap_bytes, counted=counted, **choices.arguments(),
    )  # fmt: skip
    every = choices.checkpoint_every
    with step:
        resumed = step.resume().steps if choices.resume else 0
        if resumed and not quiet:
            say(f"Going on after step {resumed}, from {safe(choices.checkpoint)}")
        losses, seconds = _run(step, job, quiet=quiet)
        if choices.checkpoint is not None and losses and step.steps % (every or step.steps + 1):
            step.checkpoint()
        result = _summary(step, job, losses, seconds, resumed)
        step.discard()
    return result


def _run(step: IsolatedStep, job: Job, *, quiet: bool) -> tuple[list[float], list[float]]:
    losses: list[float] = []
    seconds: list[float] = []
    with screen("The worker is ready; first step", step.group_peak_bytes, quiet=quiet) as shown:
        while step.steps < job.steps:
            losses.append(float(step(*job.batch_of(step.steps))))
            seconds.append(step.newest_step_seconds)
            memory = step.memory()
            shown.show(
                Figures(
                    step=step.steps,
                    steps=job.steps,
                    loss=losses[-1],
                    seconds=seconds[-1],
                    rate=job.count / seconds[-1],
                    unit=job.unit,
                    planned_bytes=memory.planned_bytes,
                    # The first step makes kernels, which later ones find made.
                    arena_bytes=memory.arena_bytes if losses[1:] else memory.first_step_bytes,
                    cap_bytes=job.cap_bytes,
                )
            )
    return losses, seconds


def _summary(
    step: IsolatedStep, job: Job, losses: list[float], seconds: list[float], resumed: int
) -> dict[str, Any]:
    import statistics

    memory, wear = step.memory(), step.wear()
    later = seconds[1:] or seconds  # the first makes kernels
    typical = statistics.median(later) if later else None
    return {
        "steps": step.steps,
        "resumed_steps": resumed,
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "seconds_per_step": typical,
        "rate": job.count / typical if typical else None,
        "unit": f"{job.unit}/s",
        "cap_bytes": job.cap_bytes,
        "ram_bytes": job.plan.budget.ram_bytes,
        "planned_peak_bytes": memory.planned_bytes,
        "arena_peak_bytes": memory.arena_bytes if losses[1:] else memory.first_step_bytes,
        "arena_resident_bytes": memory.resident_bytes,
        "process_peak_bytes": memory.group_bytes,
        "exceeded_at": memory.excess_at,
        "keep_everything_bytes": _keep_everything(job),
        "flash_written_bytes": wear.written_bytes,
        "flash_written_per_step_bytes": int(wear.bytes_per_step),
        "checkpoint_bytes": wear.checkpoint_bytes,
        "io_hidden": wear.hidden,
        "life_used": wear.life_used,
        "wear": wear.line(),
        "not_bound": list(step.missing),
    }


def _keep_everything(job: Job) -> int:
    from poet_core.baseline import judge_keep_everything

    budget = job.plan.budget
    return judge_keep_everything(
        job.program.graph,
        job.plan.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    ).peak_bytes


def print_summary(result: dict[str, Any]) -> None:
    """The summary for people."""
    if result["seconds_per_step"] is not None:
        click.echo(
            f"{result['steps']} steps, {format_seconds(result['seconds_per_step'])} each "
            f"({result['rate']:,.0f} {result['unit']}), "
            f"loss {result['first_loss']:.6g} -> {result['last_loss']:.6g}\n"
        )
    else:
        click.echo(f"{result['steps']} steps were done already.\n")
    rows = [
        ("everything kept", size(result["keep_everything_bytes"])),
        ("budget of the plan", size(result["ram_bytes"])),
        ("planned peak", size(result["planned_peak_bytes"])),
        ("arena's peak", size(result["arena_peak_bytes"])),
        ("whole process, by the kernel", size(result["process_peak_bytes"])),
        ("cap", size(result["cap_bytes"], "none")),
    ]
    print_table(("memory", "peak"), rows, right=("peak",))
    click.echo(f"\n{safe(result['wear'], 300)}")
    if result["io_hidden"] is not None:
        click.echo(f"{result['io_hidden']:.0%} of the time of transfers was hidden")
    if result["exceeded_at"]:
        click.echo(f"the plan was exceeded, first at {safe(result['exceeded_at'])}")
    for reason in result["not_bound"]:
        click.echo(f"not bound: {safe(reason, 300)}")


def size(size_bytes: int | None, none: str = "not measured") -> str:
    """Bytes for a table."""
    return none if size_bytes is None else format_bytes(size_bytes)
