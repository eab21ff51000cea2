"""TrainStep: what users import. A training step that stays inside a RAM budget, to the bit.

    step = TrainStep(model, loss_fn, optimizer, example_batch, device="jetson-tx2", ram="1GiB")
    for batch in loader:
        loss = step(*batch)

    trace -> plan -> judge -> compile        once, in the constructor
    park -> replay -> settle                 each call
    write_back                               when somebody looks: state_dict(), a forward call, close()

Between steps what the plan starts on flash is parked there: its tensors in model and optimizer are
empty. `state_dict()`, `load_state_dict()` and calling the model or a part of it bring everything
back first; before reading, changing or copying tensors directly, call `write_back()`.

Invariant: a step either completes or is void, and after a void one the object refuses to go on.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from poet_core.device import DeviceProfile
from poet_core.errors import PoetError, ReplayError, UsageError
from poet_core.plan import Allowed, Instruction, Objective, Plan
from poet_core.plan_request import DEFAULT_WALL_SECONDS
from poet_core.summary import PlanSummary, summarize
from poet_runtime.checkpointer import Checkpointer
from poet_runtime.checkpoints import Resumed, TrainingState
from poet_runtime.hooks import install
from poet_runtime.inputs import Batch, Inputs, LossFunction, as_batch
from poet_runtime.io_lane import IoLane
from poet_runtime.micro_batches import MicroBatches, without_updates
from poet_runtime.model_modes import ModelModes
from poet_runtime.other_shapes import OtherShapes, Shapes, check_choice, same_wishes
from poet_runtime.owners import Holders
from poet_runtime.pager import Pager
from poet_runtime.paging_directory import choose_paging_place
from poet_runtime.paging_file import FlashOptions
from poet_runtime.parking import Parking
from poet_runtime.plan_source import PlanSource
from poet_runtime.planner import Planner
from poet_runtime.program import Program
from poet_runtime.replay import compile_step
from poet_runtime.step_options import StepOptions
from poet_runtime.wear import WearReport


class TrainStep:
    """One training step of `model` as a callable on batches: `loss = step(*batch)`.

    The loss is `loss_fn(model(*batch[:-1]), batch[-1])`; with `loss_fn` None it is in what
    `model(*batch)` returns (`.loss`, ["loss"], or the first of a tuple). A batch that is a mapping
    is the model's keyword arguments: `step(batch)`. `batch` is an example: its shapes and types
    hold for every step. What the step may take, one of

        ram="512MiB" (or bytes), device=...   a plan is made for it by `planner`: in this process,
                                              at the address of a service, or by any object with
                                              `plan(request)`
        device=... alone                      the same, within the RAM that the device has
        plan=...                              an existing plan; `ram` and `device`, where given,
                                              are limits that it must keep
        none of them                          everything is kept

    `device` is a name or a profile; a budget without one is for this machine ("host"). `program`: a
    trace of exactly this step, to save tracing again (its update rules count steps, so two models
    never share one); `name`: what a new trace is called.
    `clip_norm`, `clip_value`: gradients are clipped before the optimizer's step (`StepOptions`).
    `accumulate`: so many calls add up gradients, and the last of them takes the optimizer's step; a
    loss that is a mean is yours to divide, as in eager code. `steps` counts optimizer's steps.
    `autocast`: the type that torch.autocast around model and loss casts to. `on_new_shape`: a batch
    that differs from the example in size is refused ("error"), or traced and planned for when it
    first comes ("replan"); between shapes the whole state passes through RAM.
    `paging_directory`: where the paging file goes; `flash`: how flash is used, a named file or raw
    device included. `flash_write_bytes`: cap on flash writes a step, by default 4 x
    keep-everything's peak. `checkpoint_path`: checkpoints go to two files of that name, one every
    `checkpoint_every` steps and whenever `checkpoint()` is called; see `resume`. `log=True` keeps
    the instructions that the newest step executed in `executed`.

    Raises TraceError, UsageError (`program_options`, ...), DeviceError, BudgetError, PlanningError, ServiceError, PlanError
    (`plan_for_other_graph`, `plan_budget_larger`, `flash_writes_exceeded`, or the judge's code) and
    ReplayError (`flash_full`, `flash_io`, `checkpoint_full`, `checkpoint_io`).
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction | None,
        optimizer: torch.optim.Optimizer,
        batch: tuple[Any, ...] | Mapping[str, Any],
        *,
        device: str | DeviceProfile | None = None,
        ram: str | int | None = None,
        plan: Plan | None = None,
        planner: Planner | str | None = None,
        program: Program | None = None,
        paging_directory: str | os.PathLike[str] | None = None,
        flash: FlashOptions | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        time_ratio: float | None = None,
        objective: Objective = Objective.ENERGY,
        allowed: Allowed | None = None,
        flash_write_bytes: int | None = None,
        wall_seconds: float = DEFAULT_WALL_SECONDS,
        name: str = "",
        log: bool = False,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        autocast: torch.dtype | None = None,
        on_new_shape: str = "error",
    ) -> None:
        _reveal(model)
        example: Batch = as_batch(batch)
        source = PlanSource(
            device=device, ram=ram, plan=plan, planner=planner, time_ratio=time_ratio,
            objective=objective, allowed=allowed, flash_write_bytes=flash_write_bytes,
            wall_seconds=wall_seconds,
        )  # fmt: skip
        options = StepOptions(
            clip_norm=clip_norm, clip_value=clip_value, accumulate=accumulate, autocast=autocast
        )
        if program is None:
            from poet_runtime.trace import trace  # 2 s of imports, for nothing with a program

            # Seconds change from run to run, and with them the graph: only for a plan made now.
            seconds = source.plans_for_this_machine
            program = trace(
                model,
                loss_fn,
                optimizer,
                batch,
                measure_seconds=seconds,
                name=name,
                options=options,
            )
        elif options not in (StepOptions(), program.options):
            raise UsageError(
                f"The program was traced with {program.options}, not with {options}.",
                code="program_options",
                hint="Leave the options out where a program is given: it has its own.",
            )
        self.program = program
        self.plan, self.judgement = source.plan_for(program)
        self._others: OtherShapes | None = None
        if check_choice(on_new_shape, flash or FlashOptions()):
            wishes = same_wishes(source, program.options)
            self._others = OtherShapes(
                lambda other: TrainStep(
                    model, loss_fn, optimizer, other, paging_directory=paging_directory,
                    flash=flash, name=name, log=log, **wishes,
                )
            )  # fmt: skip
        self._flash = flash or FlashOptions()
        self._begin(model, optimizer, example, paging_directory, log=log)
        if checkpoint_path is not None:
            self._begin_checkpoints(checkpoint_path, checkpoint_every)

    def _begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: Batch,
        paging_directory: str | os.PathLike[str] | None,
        *,
        log: bool,
    ) -> None:
        program, schedule = self.program, self.plan.schedule
        self.executed: list[Instruction] | None = [] if log else None
        self._model, self._optimizer = model, optimizer
        self._modes = ModelModes(model)
        rules = program.update_rules
        self._micro_batches = next((r for r in rules if isinstance(r, MicroBatches)), None)
        if self._micro_batches is not None:
            self._micro_batches.restart()
        self._void = ""
        self._checked = False
        self._compiled = compile_step(program, schedule)
        self._inputs = Inputs(program, batch)
        self._holders = Holders(program, model, optimizer)
        layout = self._compiled.layout
        self._compiled_adding = self._compiled  # the calls of a round before its last
        if self._micro_batches is not None:
            adding = without_updates(program, schedule, layout)
            self._compiled_adding = compile_step(program, *adding)
        self._pager: Pager | None = None
        if layout.size_bytes:
            place = choose_paging_place(paging_directory, self._flash)
            self._pager = Pager(layout.size_bytes, place, self._flash)
        self._parking = Parking(program, schedule, layout, self._holders, self._pager)
        self._hooks = install(model, optimizer, self.write_back)
        self._closed = False
        self.steps = self._steps_here = self._step_bytes_written = 0
        self.notes: dict[str, Any] = {}
        self._checkpointer: Checkpointer | None = None

    def _begin_checkpoints(self, path: str | os.PathLike[str], every: int | None) -> None:
        state = TrainingState(self._model, self._optimizer, self._holders, self._parking)
        self._lane = self._pager.lane if self._pager else IoLane(self._flash.stall_seconds)
        try:
            self._checkpointer = Checkpointer(path, every, state, self._lane, self._flash)
        except BaseException:
            self._lane.close()
            self.close()
            raise

    def __call__(self, *batch: Any, donate: bool = False) -> torch.Tensor:
        """One step; returns the loss. The batch is copied into memory of the step, or, with
        `donate`, taken over: the tensors passed are empty afterwards.

        Raises UsageError (`batch_mismatch`) and ReplayError (`optimizer_changed`, `state_changed`,
        `mode_changed`) before anything has changed; ReplayError (`flash_corrupt`, `flash_io`, `flash_full`,
        `op_output`, `step_failed`) where the step is void, and `step_void` ever after.
        """
        self._check_usable()
        if self._checkpointer is not None:
            self._checkpointer.begin()
        self._modes.check()
        whole = self._inputs.batch_of(batch)
        shapes = None if self._others is None else self._inputs.other_shapes(whole)
        if shapes is None:
            loss = self._step(whole, donate=donate)
        else:
            loss = self._step_elsewhere(shapes, whole, donate=donate)
        if (
            self._checkpointer is not None
            and self._checkpointer.due(self.steps)
            and not self._accumulating
        ):
            self.checkpoint()
        return loss

    def _step(self, batch: Batch, *, donate: bool) -> torch.Tensor:
        for rule in self.program.update_rules:
            rule.begin_step(self._optimizer)
        tensors = self._inputs.check(batch)
        self.park()
        resident = self._inputs.take(tensors, donate=donate)
        with self._void_on_fault():
            return self._run(resident)

    def _step_elsewhere(self, shapes: Shapes, batch: Batch, *, donate: bool) -> torch.Tensor:
        """A step that another TrainStep makes, for a batch of these shapes."""
        assert self._others is not None
        other = self._others.at(shapes, batch)
        if self._micro_batches is not None and other._micro_batches is not None:
            other._micro_batches.done = self._micro_batches.done
        try:
            loss = other._step(batch, donate=donate)
        finally:
            self._void = other._void
        if self._micro_batches is not None and other._micro_batches is not None:
            self._micro_batches.done = other._micro_batches.done
        self.steps += not self._accumulating
        if self.executed is not None:
            self.executed = other.executed
        return loss

    def park(self) -> None:
        """Parks now what the next step would park first: RAM holds what the plan keeps there."""
        self._check_usable()
        if self._parking.is_parked:
            return
        _reveal(self._model)  # another TrainStep on this model brings back what it has parked
        self._holders.check()
        for rule in self.program.update_rules:
            rule.load(self._optimizer)
        with self._void_on_fault():
            self._parking.park()

    def _run(self, resident: dict[int, torch.Tensor]) -> torch.Tensor:
        resident.update(self._parking.resident())
        if self.executed is not None:
            self.executed = []
        written = self._pager.bytes_written if self._pager else 0
        last = self._micro_batches is None or self._micro_batches.last
        compiled = self._compiled if last else self._compiled_adding
        loss, moved = compiled(
            resident, pager=self._pager, checked=not self._checked, log=self.executed
        )
        self._parking.settle(moved)
        for rule in self.program.update_rules:
            rule.end_step()
        # What optimizer.step() leaves for a scheduler, which warns where it has not been called.
        self._optimizer._opt_called = True  # type: ignore[attr-defined]
        self._checked = True
        self.steps += not self._accumulating
        self._steps_here += 1
        self._step_bytes_written += (self._pager.bytes_written if self._pager else 0) - written
        return loss

    def write_back(self) -> None:
        """Brings every value back into model and optimizer, step counts included."""
        if self._closed or not self._parking.is_parked:
            return
        self._check_usable()
        with self._void_on_fault():
            self._parking.write_back()
        if self._micro_batches is not None:
            self._holders.show_gradients(self._micro_batches.begun)
        for rule in self.program.update_rules:
            rule.store(self._optimizer)

    def checkpoint(self) -> None:
        """Writes a checkpoint now: model, optimizer, generator, `steps` and `notes` (JSON values of
        yours), as they are after the newest step. Takes no RAM but a buffer.

        Raises UsageError (`no_checkpoint_path`, `checkpoint_too_early`, `checkpoint_exists`,
        `checkpoint_accumulating`, `checkpoint_value`) and ReplayError (`checkpoint_full`, `checkpoint_io`); after these the
        older checkpoint and the training state are untouched, and training may go on. A fault of
        the paging file (`flash_...`) voids the state as it does in a step.
        """
        self._check_usable()
        checkpointer = self._checkpoints()
        if not self.steps:
            raise UsageError(
                "Expected a completed step before a checkpoint, got none.",
                code="checkpoint_too_early",
            )
        if self._accumulating:
            raise UsageError(
                "Expected a checkpoint after an optimizer's step, got one in the middle of an "
                "accumulation.",
                code="checkpoint_accumulating",
                hint="Call checkpoint() after the last call of a round.",
            )
        self.park()
        for rule in self.program.update_rules:
            rule.store(self._optimizer)
        try:
            checkpointer.write(self.steps, self.notes)
        except ReplayError as error:
            if self._lane.fault is not None:
                self._void = error.message
            raise

    def resume(self) -> Resumed:
        """Puts the newest whole checkpoint into model, optimizer and generator; `steps` and `notes`
        become its own. Without one everything stays as it is. What follows is what would have
        followed the step after which it was written.

        Raises UsageError (`no_checkpoint_path`) and DataError (`checkpoint_mismatch`,
        `checkpoint_corrupt`) before anything has changed; ReplayError where the state is void.
        """
        checkpointer = self._checkpoints()
        _reveal(self._model)
        self._check_usable()
        found = checkpointer.find()
        if found is None:
            return Resumed(steps=0, notes={})
        with self._void_on_fault():
            resumed = checkpointer.restore(*found)
        if self._micro_batches is not None:
            self._micro_batches.restart()
        self.steps, self.notes = resumed.steps, dict(resumed.notes)
        return resumed

    def wear(self) -> WearReport:
        """What this TrainStep has written to flash, and waited for it; `.line()` for people."""
        own = WearReport(
            steps=self._steps_here,
            written_bytes=self._pager.bytes_written if self._pager else 0,
            step_bytes=self._step_bytes_written,
            planned_step_bytes=self.judgement.flash_bytes_written,
            checkpoint_bytes=self._checkpointer.bytes_written if self._checkpointer else 0,
            endurance_bytes=self._flash.endurance_bytes,
            busy_seconds=self._pager.lane.busy_seconds if self._pager else 0.0,
            waited_seconds=self._pager.lane.waited_seconds if self._pager else 0.0,
            direct=self._pager.file.flash.direct if self._pager else None,
        )
        return own if self._others is None else self._others.added_to(own)

    def summary(self) -> PlanSummary:
        """The plan against its budget, keep-everything and the floor; `.line()` for people."""
        return summarize(self.program.graph, self.plan, self.judgement)

    def reallocate(self) -> None:
        """Parks, and moves every value that stays in RAM to new memory, for `measured_peak`."""
        self.park()
        self._parking.reallocate()

    def close(self) -> None:
        """Brings everything back, removes the hooks, ends the I/O thread, deletes the paging file.

        After a void step what was lost is filled with NaN instead, so that load_state_dict works.
        May be repeated.
        """
        if self._closed:
            return
        try:
            if self._others is not None:
                self._others.close()
            if self._void:
                self._parking.abandon()
            else:
                self.write_back()
        finally:
            self._closed = True
            self._hooks.close()
            if self._checkpointer is not None:
                self._lane.close()
            if self._pager is not None:
                self._pager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        self.close()

    def _checkpoints(self) -> Checkpointer:
        if self._checkpointer is None:
            raise UsageError(
                "This TrainStep was made without checkpoint_path.",
                code="no_checkpoint_path",
                hint="Pass checkpoint_path=... when you make it.",
            )
        return self._checkpointer

    @property
    def _accumulating(self) -> bool:
        """Whether gradients have been added up that no update has used yet."""
        return self._micro_batches is not None and self._micro_batches.done > 0

    def _check_usable(self) -> None:
        if self._closed:
            raise ReplayError("This TrainStep is closed.", code="step_closed")
        if self._void:
            raise ReplayError(
                f"An earlier step did not complete, so the state is void: {self._void}",
                code="step_void",
                hint="close() it, load a checkpoint into model and optimizer, and build a new "
                "TrainStep.",
            )

    @contextmanager
    def _void_on_fault(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves the state half changed."""
        try:
            yield
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # the step's tensors are in them
            self._void = error.message if isinstance(error, PoetError) else repr(error)
            if isinstance(error, PoetError) or not isinstance(error, Exception):
                raise
            raise ReplayError(
                f"The step failed and is void: {error!r}",
                code="step_failed",
                hint="The error above says what failed and why.",
            ) from error


def _reveal(model: nn.Module) -> None:
    """Runs the hooks of every TrainStep on the model."""
    model.state_dict()
