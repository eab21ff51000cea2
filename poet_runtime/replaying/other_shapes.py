"""Batches of other shapes: a TrainStep for each, on the same model and optimizer.

Each shape is traced and planned when it first comes, for the same budget, and kept. The steps hand
the state to each other through model and optimizer: what one has parked comes back before another
parks it. Invariant: at most `MOST_SHAPES` are kept; the one that has not been used for longest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import torch

from poet_core.errors import UsageError
from poet_runtime.flash.wear import WearReport
from poet_runtime.replaying.inputs import Batch

if TYPE_CHECKING:
    from poet_runtime.flash.paging_file import FlashOptions
    from poet_runtime.plan_source import PlanSource
    from poet_runtime.replaying.running_step import RunningStep
    from poet_runtime.splitting_choice import Split
    from poet_runtime.step_options import StepOptions
    from poet_runtime.train_step import TrainStep

ON_NEW_SHAPE = ("error", "replan")
MOST_SHAPES = 8
"""A paging file is preallocated for each, so buckets of a few lengths fit and an endless variety
does not fill the disk."""

Shapes = tuple[tuple[int, ...], ...]


class OtherShapes:
    """The TrainSteps for other shapes. `make` builds one for a batch."""

    def __init__(self, make: Callable[[Batch], TrainStep]) -> None:
        self._make = make
        self._steps: OrderedDict[Shapes, TrainStep] = OrderedDict()
        self._gone = _Written()

    def at(self, shapes: Shapes, batch: Batch) -> TrainStep:
        """The step for these shapes, made if it is new. Raises what TrainStep raises."""
        step = self._steps.get(shapes)
        if step is None:
            if len(self._steps) == MOST_SHAPES:
                _, oldest = self._steps.popitem(last=False)
                oldest.close()
                self._gone.add(oldest.wear())
            step = self._steps[shapes] = self._make(batch)
        self._steps.move_to_end(shapes)
        return step

    def step(
        self, shapes: Shapes, batch: Batch, first: RunningStep, *, donate: bool
    ) -> torch.Tensor:
        """A step in the place of `first`, for a batch of these shapes; returns the loss."""
        other = self.at(shapes, batch).running
        if first.micro_batches is not None and other.micro_batches is not None:
            other.micro_batches.done = first.micro_batches.done
        try:
            loss = other.step(batch, donate=donate)
        finally:
            first.validity.void = other.validity.void
        if first.micro_batches is not None and other.micro_batches is not None:
            first.micro_batches.done = other.micro_batches.done
        if first.executed is not None:
            first.executed = other.executed
        return loss

    def added_to(self, own: WearReport) -> WearReport:
        """A report that counts what all of them have written."""
        written = _Written()
        reports = (own, *(step.wear() for step in self._steps.values()))
        for report in reports:
            written.add(report)
        return replace(
            own,
            host_bytes=sum(report.host_bytes for report in reports),
            steps=written.steps + self._gone.steps,
            written_bytes=written.written_bytes + self._gone.written_bytes,
            step_bytes=written.step_bytes + self._gone.step_bytes,
        )

    def close(self) -> None:
        """Closes all of them."""
        for step in self._steps.values():
            step.close()


class _Written:
    """Sums over reports."""

    def __init__(self) -> None:
        self.steps = self.written_bytes = self.step_bytes = 0

    def add(self, report: WearReport) -> None:
        self.steps += report.steps
        self.written_bytes += report.written_bytes
        self.step_bytes += report.step_bytes


def check_choice(on_new_shape: str, flash: FlashOptions) -> bool:
    """Whether to plan again. Raises UsageError (`on_new_shape_invalid`, `replan_needs_directory`)."""
    if on_new_shape not in ON_NEW_SHAPE:
        raise UsageError(
            f"Expected on_new_shape to be one of {', '.join(ON_NEW_SHAPE)}, got {on_new_shape!r}.",
            code="on_new_shape_invalid",
        )
    if on_new_shape == "replan" and flash.file is not None:
        raise UsageError(
            "Expected a paging directory with on_new_shape='replan', got one named file: each "
            "shape has a paging file of its own.",
            code="replan_needs_directory",
            hint="Give paging_directory instead of the file.",
        )
    return on_new_shape == "replan"


def same_wishes(source: PlanSource, options: StepOptions, split: Split) -> dict[str, Any]:
    """The arguments of TrainStep that a step for another shape has in common with the first."""
    wishes = source.for_another_graph()
    common = {
        item.name: getattr(part, item.name) for part in (wishes, options) for item in fields(part)
    }
    # What `split` becomes is each shape's own; the machine and where it pages are the same.
    for own in ("split_above_bytes", "machine", "paging_directory", "flash"):
        del common[own]
    return common | {"split": split}
