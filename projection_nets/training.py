"""Training a joint module for so many steps: inside a RAM budget, or in plain eager PyTorch.

    train(joint, optimizer, splits.train, steps=4000)                           # eager
    train(joint, optimizer, splits.train, steps=4000, ram="24MiB")              # the same bits
    train(joint, optimizer, splits.train, steps=4000, checkpoint=path)          # resumes after a kill

Batches are a function of (seed, step), so a run that is killed and started again sees what the
uninterrupted run would have seen and ends with the same bits. Pre-training is a call of its own,
with `joint.pretraining()` and an optimizer of its parameters.

Invariant: evaluation and progress change nothing that training sees. One exception is the runtime's
own: eager's fused LSTM kernel rounds otherwise than the ops that are traced (`poet_runtime.tracing.trace`).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poet_core.errors import UsageError
from poet_runtime import TrainStep
from projection_nets.data.batches import minibatches
from projection_nets.data.examples import Labelled
from projection_nets.eager import EagerStep
from projection_nets.joint_step import JointStep
from projection_nets.metrics import evaluate_networks

IMAGE_BATCH, TEXT_BATCH = 200, 100
"""Ravi 2017, section 4.1 and 4.3."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training is. `precision`: P@k of each network on the validation examples, where they
    have just been evaluated. `planned_peak_bytes`: of the plan, None in eager mode;
    `process_peak_bytes`: what the process has used at most, the interpreter included."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    precision: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    planned_peak_bytes: int | None = None
    process_peak_bytes: int = 0


def train(
    joint: JointStep,
    optimizer: torch.optim.Optimizer,
    examples: Labelled[tuple[Tensor, ...]],
    *,
    steps: int,
    seed: int = 0,
    batch_size: int = IMAGE_BATCH,
    ram: str | int | None = None,
    device: str | None = None,
    validation: Labelled[tuple[Tensor, ...]] | None = None,
    evaluate_every: int | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    report_every: int = 50,
    on_progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> list[Progress]:
    """Trains until `steps` steps are done, those before a resumed checkpoint included.

    `ram`, `device` and `options` are TrainStep's; without `ram` and `device` the step is eager.
    `validation` is evaluated every `evaluate_every` steps and at the end. Returns what it reported.
    Raises what TrainStep does, UsageError (`batch_size_invalid`, `steps_invalid`) and DataError for
    a checkpoint of something else.
    """
    if steps < 1 or report_every < 1 or checkpoint_every < 1:
        raise UsageError(
            f"Expected at least one step between reports and checkpoints and in all, got "
            f"{report_every}, {checkpoint_every} and {steps}.",
            code="steps_invalid",
            hint="Pass positive numbers.",
        )
    example = next(minibatches(examples, seed=seed, steps=1, batch_size=batch_size))
    reports: list[Progress] = []
    opened: TrainStep | EagerStep
    if ram is None and device is None:
        opened = EagerStep(
            joint,
            joint.loss,
            optimizer,
            checkpoint_path=checkpoint,
            checkpoint_every=checkpoint_every,
        )
    else:
        every = None if checkpoint is None else checkpoint_every
        opened = TrainStep(
            joint, joint.loss, optimizer, example, ram=ram, device=device,
            checkpoint_path=checkpoint, checkpoint_every=every, **options,
        )  # fmt: skip
    with opened as step:
        first = step.resume().steps if checkpoint is not None else 0
        batches = minibatches(
            examples,
            seed=seed,
            steps=max(steps - first, 0),
            batch_size=batch_size,
            first_step=first,
        )
        began = time.perf_counter()
        for number, batch in enumerate(batches, start=first + 1):
            loss = step(*batch)
            evaluated = number == steps or (evaluate_every and number % evaluate_every == 0)
            if not (evaluated or number % report_every == 0):
                continue
            precision: Mapping[str, Mapping[int, float]] = {}
            if evaluated and validation is not None:
                with _untouched():
                    precision = evaluate_networks(joint, validation)
            reports.append(
                Progress(
                    step=number,
                    steps=steps,
                    loss=loss.item(),
                    seconds_per_step=(time.perf_counter() - began) / (number - first),
                    precision=precision,
                    planned_peak_bytes=_planned(step),
                    process_peak_bytes=_process_peak_bytes(),
                )
            )
            if on_progress is not None:
                on_progress(reports[-1])
    return reports


def _planned(step: TrainStep | EagerStep) -> int | None:
    return step.plan.claims.peak_bytes if isinstance(step, TrainStep) else None


def _process_peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


@contextmanager
def _untouched() -> Iterator[None]:
    """The generator that dropout draws from stays where it is."""
    with torch.random.fork_rng(devices=[]):
        yield
