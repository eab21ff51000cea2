"""The joint training inside half of its RAM, planned for time: the same weights, and at what price.

    eager
    kept      everything in RAM
    direct    half of what that takes; copies go past the page cache, to the disk and back
    cached    the same through the page cache: while the machine has RAM to spare, copies lie there

Four copies of one training take turns, so many steps each. A ratio is the median over the turns of
that turn's ratio, so a machine that is busy for a while burdens all of them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_fit import TRAINER, Row
from benchmarks.projection_place import Place
from poet_core.plan import Objective
from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from projection_nets import JointTraining, ProjectionNet, Student
from projection_nets.data.batches import minibatches
from projection_nets.data.images import LabelledImages
from projection_nets.eager import EagerStep
from projection_nets.training import IMAGE_BATCH

STEPS, TURNS = 500, 20
SHARE = 0.5
_PLANNING_SECONDS = 30.0

Step = Callable[..., Tensor]


def ram_rows(place: Place, data: str, seed: int) -> list[Row]:
    """One row: bytes, equality of the weights after all steps, ratios of time."""
    from benchmarks.projection_taught import image_teacher, image_trainer

    splits = image_splits(place, data, seed)
    pixels = splits.input_of("pixels")
    steps, turns = (4, 2) if place.small else (STEPS, TURNS)
    functions, bits = (4, 4) if place.small else (60, 12)
    share = 0.8 if place.small else SHARE  # a tiny step's floor is high

    def joint() -> tuple[JointTraining, torch.optim.Optimizer]:
        net = image_trainer(place, splits, seed)
        torch.manual_seed(seed)
        small = ProjectionNet(
            splits.test.inputs[pixels].shape[1], splits.classes, T=functions, d=bits
        )
        made = JointTraining(
            trainers={TRAINER: image_teacher(splits, net)},
            students={"small": Student(net=small, input=pixels)},
        )
        return made, torch.optim.Adam(made.parameters(), lr=1e-3)

    batch = 20 if place.small else IMAGE_BATCH
    example = next(minibatches(_pixels(splits), seed=seed, steps=1, batch_size=batch))
    with ExitStack() as open_steps:
        models: list[JointTraining] = []
        running: list[Step] = []
        eager, optimizer = joint()
        models.append(eager)
        running.append(EagerStep(eager, eager.loss, optimizer))
        kept, optimizer = joint()
        models.append(kept)
        whole = TrainStep(kept, kept.loss, optimizer, example)
        running.append(open_steps.enter_context(whole))
        kept_bytes = whole.plan.claims.peak_bytes
        budget_bytes = int(share * kept_bytes)
        planned: list[TrainStep] = []
        for direct in (True, False):
            half, optimizer = joint()
            models.append(half)
            step = TrainStep(
                half, half.loss, optimizer, example, ram=budget_bytes, device="host",
                objective=Objective.TIME, flash=FlashOptions(direct=direct),
                wall_seconds=2.0 if place.small else _PLANNING_SECONDS,
            )  # fmt: skip
            planned.append(open_steps.enter_context(step))
        running += planned
        seconds = _in_turns(place, running, splits, seed, batch, steps, turns)
        peaks = [step.plan.claims.peak_bytes for step in planned]
        for one in (whole, *planned):
            one.write_back()
        states = [list(model.state_dict().values()) for model in models]
    return [
        {
            "row": f"joint training at {share:.0%} of keep-everything",
            "steps": steps,
            "kept_bytes": kept_bytes,
            "budget_bytes": budget_bytes,
            "planned_peak_bytes": max(peaks),
            "same_as_eager": all(_same(states[0], one) for one in states[2:]),
            "same_as_kept": all(_same(states[1], one) for one in states[2:]),
            "ratio_to_kept": _ratio(seconds[2], seconds[1]),
            "ratio_to_eager": _ratio(seconds[2], seconds[0]),
            "cached_ratio_to_kept": _ratio(seconds[3], seconds[1]),
            "milliseconds": [round(1000 * statistics.median(one), 2) for one in seconds],
        }
    ]


def _in_turns(
    place: Place, running: list[Step], splits: Splits, seed: int, batch: int, steps: int, turns: int
) -> list[list[float]]:
    """Seconds a step of each, by turn. Every copy sees the same batches and the same dropout."""
    seconds: list[list[float]] = [[] for _ in running]
    each = steps // turns
    for turn in range(turns):
        for number, step in enumerate(running):
            torch.manual_seed(1000 * seed + turn)
            batches = list(
                minibatches(
                    _pixels(splits), seed=seed, steps=each, batch_size=batch, first_step=turn * each
                )
            )
            began = time.perf_counter()
            for one in batches:
                step(*one)
            seconds[number].append((time.perf_counter() - began) / each)
        place.tell(f"ram: turn {turn + 1}/{turns}", done=False)
    return seconds


def _pixels(splits: Splits) -> LabelledImages:
    """The training images as float pixels alone: what a device has."""
    pixels = splits.train.inputs[splits.input_of("pixels")]
    return LabelledImages(pixels=pixels, labels=splits.train.labels)


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def _ratio(ours: list[float], base: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, base, strict=True)), 4)
