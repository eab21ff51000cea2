"""RunningStep: one program under one schedule, at work on one model and optimizer.

    park     model and optimizer hand the state over; once, until somebody looks
    replay   the compiled step, on a batch in memory of its own
    settle   model and optimizer hold what the step has left in RAM

and `write_back`, which the hooks on model and optimizer call before anybody looks. It knows neither
where its plan came from nor checkpoints. Invariant: a batch or a model that does not fit is refused
before anything has changed; a fault after that voids the step.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import torch
from torch import nn

from poet_core.plan import Instruction, Schedule
from poet_runtime.flash.paging import Paging, open_paging
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.wear import WearReport
from poet_runtime.program import Program
from poet_runtime.replaying.hooks import install
from poet_runtime.replaying.inputs import Batch, Inputs
from poet_runtime.replaying.model_modes import ModelModes
from poet_runtime.replaying.owners import Holders
from poet_runtime.replaying.parking import Parking
from poet_runtime.replaying.replay import compile_step
from poet_runtime.replaying.validity import Validity
from poet_runtime.tracing.micro_batches import MicroBatches, without_updates


class RunningStep:
    """A schedule that the judge has accepted, ready to run.

    `batch`: an example. `log`: keep the newest step's instructions in `executed`. `steps`, and
    `step_bytes_written` to flash in them: the calls that completed here. Raises ReplayError.
    """

    def __init__(
        self,
        program: Program,
        schedule: Schedule,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        *,
        paging_directory: str | os.PathLike[str] | None,
        flash: FlashOptions,
        log: bool,
    ) -> None:
        self.program, self.model, self.optimizer, self.flash = program, model, optimizer, flash
        self.executed: list[Instruction] | None = [] if log else None
        self.modes = ModelModes(model)
        rules = program.update_rules
        self.micro_batches = next((r for r in rules if isinstance(r, MicroBatches)), None)
        if self.micro_batches is not None:
            self.micro_batches.restart()
        self.validity = Validity()
        self._checked = False
        self.compiled = compile_step(program, schedule)
        self.inputs = Inputs(program, batch)
        self.holders = Holders(program, model, optimizer)
        layout = self.compiled.layout
        self.compiled_adding = self.compiled  # the calls of a round before its last
        if self.micro_batches is not None:
            adding = without_updates(program, schedule, layout)
            self.compiled_adding = compile_step(program, *adding)
        self.pager: Paging | None = None
        if layout.size_bytes:
            self.pager = open_paging(layout.size_bytes, paging_directory, flash, program.device)
        self.parking = Parking(program, schedule, layout, self.holders, self.pager)
        self._hooks = install(model, optimizer, self.write_back)
        self.steps = self.step_bytes_written = 0

    @property
    def accumulating(self) -> bool:
        """Whether gradients have been added up that no update has used yet."""
        return self.micro_batches is not None and self.micro_batches.done > 0

    def step(self, batch: Batch, *, donate: bool) -> torch.Tensor:
        """One call on a batch; returns the loss. See TrainStep."""
        for rule in self.program.update_rules:
            rule.begin_step(self.optimizer)
        tensors = self.inputs.check(batch)
        self.park()
        resident = self.inputs.take(tensors, donate=donate)
        with self.validity.void_on_fault():
            return self._run(resident)

    def park(self) -> None:
        """Parks now what the next step would park first: RAM holds what the plan keeps there."""
        self.validity.check()
        if self.parking.is_parked:
            return
        reveal(self.model)  # another step on this model brings back what it has parked
        self.holders.check()
        for rule in self.program.update_rules:
            rule.load(self.optimizer)
        with self.validity.void_on_fault():
            self.parking.park()

    def _run(self, resident: dict[int, torch.Tensor]) -> torch.Tensor:
        resident.update(self.parking.resident())
        if self.executed is not None:
            self.executed = []
        written = self.pager.bytes_written if self.pager else 0
        last = self.micro_batches is None or self.micro_batches.last
        compiled = self.compiled if last else self.compiled_adding
        loss, moved = compiled(
            resident, pager=self.pager, checked=not self._checked, log=self.executed
        )
        self.parking.settle(moved)
        for rule in self.program.update_rules:
            rule.end_step()
        # What optimizer.step() leaves for a scheduler, which warns where it has not been called.
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        self._checked = True
        self.steps += 1
        self.step_bytes_written += (self.pager.bytes_written if self.pager else 0) - written
        return loss

    def write_back(self) -> None:
        """Brings every value back into model and optimizer, step counts included."""
        if self.validity.closed or not self.parking.is_parked:
            return
        self.validity.check()
        with self.validity.void_on_fault():
            self.parking.write_back()
        if self.micro_batches is not None:
            self.holders.show_gradients(self.micro_batches.begun)
        self.store_counts()

    def store_counts(self) -> None:
        """Writes the step counts into the optimizer's state."""
        for rule in self.program.update_rules:
            rule.store(self.optimizer)

    def wear(self, planned_step_bytes: int) -> WearReport:
        """What was written to flash here, beside the plan's figure; without checkpoints."""
        pager = self.pager
        return WearReport(
            steps=self.steps,
            written_bytes=pager.bytes_written if pager else 0,
            step_bytes=self.step_bytes_written,
            planned_step_bytes=planned_step_bytes,
            checkpoint_bytes=0,
            endurance_bytes=self.flash.endurance_bytes,
            busy_seconds=pager.lane.busy_seconds if pager else 0.0,
            waited_seconds=pager.lane.waited_seconds if pager else 0.0,
            direct=pager.tier.direct if pager else None,
            where=pager.tier.where if pager else "flash",
            host_bytes=pager.host_bytes if pager else 0,
        )

    def reallocate(self) -> None:
        """Parks, and moves every value that stays in RAM to new memory."""
        self.park()
        self.parking.reallocate()

    def close(self) -> None:
        """Brings everything back, or fills what a void step has lost with NaN; removes the hooks,
        ends the I/O thread, deletes the paging file. May be repeated."""
        if self.validity.closed:
            return
        with ExitStack() as exits:
            if self.pager is not None:
                exits.callback(self.pager.close)
            exits.callback(self._hooks.close)
            try:
                if self.validity.void:
                    self.parking.abandon()
                else:
                    self.write_back()
            finally:
                self.validity.closed = True


def reveal(model: nn.Module) -> None:
    """Runs the hooks of every step on the model."""
    model.state_dict()
