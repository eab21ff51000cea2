"""One training run of the demo, in a process of its own: planned, unconstrained or eager.

Writes a JSON report: every loss (exact, in hexadecimal), the SHA-256 of every state tensor, the
accuracies, the seconds a step and, for a replay, the peak of live tensor memory as the allocator's
own events tell it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from examples.projection import step as joint_step
from poet_core.errors import PoetError
from poet_core.plan_document import read_plan
from poet_runtime import TrainStep
from poet_runtime.fingerprint import fingerprint
from poet_runtime.memory.measured_peak import measure_peak
from projection_nets import JointObjective
from projection_nets.data.batches import minibatches
from projection_nets.data.mnist import mnist_or_digits
from projection_nets.metrics import evaluate_joint

_MEASURED_STEPS = 5  # at least 3: a storage that misses its way back shows in the second or third
_DATA_SEED = 1

Losses = list[float]
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


def main() -> int:
    """Run one mode; the last line of stderr says what went wrong, if anything."""
    options = _options()
    torch.set_num_threads(options.threads)
    try:
        report = _run(options)
    except PoetError as error:
        print(f"{error} [{error.code}]", file=sys.stderr)
        return 1
    options.out.write_text(json.dumps(report))
    return 0


def _run(options: argparse.Namespace) -> dict[str, Any]:
    data_root = os.environ.get("POET_DATA")
    splits = mnist_or_digits(Path(data_root) if data_root else None)
    model, loss_fn, optimizer, batch = joint_step(optimizer=options.optimizer)
    batches = minibatches(splits.train, seed=_DATA_SEED, steps=options.steps)
    report: dict[str, Any] = {"data": splits.name, "mode": options.mode}
    losses: Losses = []
    if options.mode == "eager":
        step = _eager_step(model, loss_fn, optimizer)
        report["seconds_per_step"] = _train(step, batches, losses)
    else:
        plan = read_plan(options.plan.read_bytes()) if options.mode == "planned" else None
        with TrainStep(model, loss_fn, optimizer, batch, plan=plan) as replay:
            few = itertools.islice(batches, options.steps - _MEASURED_STEPS)
            report["seconds_per_step"] = _train(partial(replay, donate=True), few, losses)
            report["measured_peak_bytes"] = _measured(replay, batches, losses)
    report |= {
        "losses": [loss.hex() for loss in losses],
        "final_loss": losses[-1],
        "fingerprint": fingerprint(model, optimizer),
    }
    assert isinstance(model, JointObjective)  # what examples.projection builds
    scores = evaluate_joint(model, splits.test)
    report["trainer_accuracy"] = scores.trainer[1]
    report["projection_accuracy"] = scores.projection[1]
    return report


def _measured(replay: TrainStep, batches: Batches, losses: Losses) -> int:
    """Train on the rest of the batches; the peak of all tensor memory, batches included."""
    peak = measure_peak(
        prepare=replay.reallocate,
        run=lambda: _train(partial(replay, donate=True), batches, losses),
    )
    return peak.peak_bytes


def _train(step: Callable[..., torch.Tensor], batches: Batches, losses: Losses) -> float:
    """Train on every batch; the median of the seconds a step."""
    seconds = []
    for inputs, target in batches:
        begin = time.perf_counter()
        losses.append(float(step(inputs, target)))
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def _eager_step(
    model: torch.nn.Module, loss_fn: Any, optimizer: torch.optim.Optimizer
) -> Callable[..., torch.Tensor]:
    def step(inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss: torch.Tensor = loss_fn(model(inputs), target)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=("planned", "unconstrained", "eager"), required=True)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--optimizer", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
