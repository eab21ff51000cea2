"""The checkpoints of a running step: when one may be written, and what a step does before and after.

Invariant: a checkpoint is of the state that a whole optimizer's step has left.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from poet_core.errors import ReplayError, UsageError
from poet_runtime.checkpointing.checkpointer import Checkpointer
from poet_runtime.checkpointing.checkpoints import Resumed, TrainingState
from poet_runtime.flash.io_lane import IoLane
from poet_runtime.replaying.running_step import RunningStep, reveal


class StepCheckpoints:
    """See TrainStep: `checkpoint_path`, `checkpoint_every`, `checkpoint()` and `resume()`."""

    def __init__(
        self, path: str | os.PathLike[str], every: int | None, running: RunningStep
    ) -> None:
        self._running = running
        state = TrainingState(running.model, running.optimizer, running.holders, running.parking)
        pager = running.pager
        self._lane = pager.lane if pager else IoLane(running.flash.stall_seconds)
        try:
            self.checkpointer = Checkpointer(path, every, state, self._lane, running.flash)
        except BaseException:
            self._lane.close()
            raise

    @property
    def bytes_written(self) -> int:
        """Bytes of the checkpoints that this run has completed."""
        return self.checkpointer.bytes_written

    def begin(self) -> None:
        """Before a step; see Checkpointer."""
        self.checkpointer.begin()

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is to be written after `steps` steps."""
        return self.checkpointer.due(steps) and not self._running.accumulating

    def write(self, steps: int, notes: Mapping[str, Any]) -> None:
        """Writes a checkpoint of the state as it is."""
        running = self._running
        running.validity.check()
        if not steps:
            raise UsageError(
                "Expected a completed step before a checkpoint, got none.",
                code="checkpoint_too_early",
            )
        if running.accumulating:
            raise UsageError(
                "Expected a checkpoint after an optimizer's step, got one in the middle of an "
                "accumulation.",
                code="checkpoint_accumulating",
                hint="Call checkpoint() after the last call of a round.",
            )
        running.park()
        running.store_counts()
        try:
            self.checkpointer.write(steps, notes)
        except ReplayError as error:
            if self._lane.fault is not None:
                running.validity.void = error.message
            raise

    def resume(self) -> Resumed | None:
        """Puts the newest whole checkpoint into model, optimizer and generator; None without one."""
        running = self._running
        reveal(running.model)
        running.validity.check()
        found = self.checkpointer.find()
        if found is None:
            return None
        with running.validity.void_on_fault():
            resumed = self.checkpointer.restore(*found)
        if running.micro_batches is not None:
            running.micro_batches.restart()
        return resumed

    def close(self) -> None:
        """Ends the thread that writes. May be repeated."""
        self._lane.close()
