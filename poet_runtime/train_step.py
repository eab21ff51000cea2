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
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from poet_core.device import DeviceProfile
from poet_core.errors import UsageError
from poet_core.plan import Allowed, Instruction, Objective, Plan
from poet_core.plan_request import DEFAULT_WALL_SECONDS
from poet_core.summary import PlanSummary, summarize
from poet_runtime.checkpointing.checkpoints import Resumed
from poet_runtime.checkpointing.step_checkpoints import StepCheckpoints
from poet_runtime.closing import Closing
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.wear import WearReport
from poet_runtime.plan_source import PlanSource
from poet_runtime.planner import Planner
from poet_runtime.program import Program
from poet_runtime.replaying.inputs import LossFunction, as_batch
from poet_runtime.replaying.other_shapes import OtherShapes, check_choice, same_wishes
from poet_runtime.replaying.running_step import RunningStep, reveal
from poet_runtime.splitting_choice import AUTO, Split, parse_split, traced_and_planned
from poet_runtime.step_options import StepOptions
from poet_runtime.torch_device import device_of, machine_of


class TrainStep(Closing):
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

    `device` is a name or a profile; a budget without one is for this machine ("host", or "cuda"
    where model and batch are on a GPU: the budget is of its memory then). `program`: a
    trace of exactly this step, to save tracing again (its update rules count steps, so two models
    never share one); `name`: what a new trace is called.
    `clip_norm`, `clip_value`: gradients are clipped before the optimizer's step (`StepOptions`).
    `accumulate`: so many calls add up gradients, and the last of them takes the optimizer's step; a
    loss that is a mean is yours to divide, as in eager code. `steps` counts optimizer's steps.
    `autocast`: the type that torch.autocast around model and loss casts to. `on_new_shape`: a batch
    that differs from the example in size is refused ("error"), or traced and planned for when it
    first comes ("replan"); between shapes the whole state passes through RAM.
    `split`: whether large ops are traced in parts, to the same bits ("auto": where a budget wants
    it; "off"; or a size such as "300MiB"; see `splitting_choice`); a plan belongs to its splitting.
    `paging_directory`: where the paging file goes; `flash`: how flash is used, a named file or raw
    device included, or that copies go to the host's memory beside a GPU. `flash_write_bytes`: cap
    on flash writes a step, by default 4 x keep-everything's peak. `checkpoint_path`: checkpoints go to two files of that name, one every
    `checkpoint_every` steps and whenever `checkpoint()` is called; see `resume`. `log=True` keeps
    the instructions that the newest step executed in `executed`.

    Raises TraceError, UsageError (`program_options`, ...), DeviceError, BudgetError, PlanningError, ServiceError, PlanError
    (`plan_for_other_graph`, `plan_budget_larger`, `flash_writes_exceeded`, or the judge's code) and
    ReplayError (`flash_full`, `flash_io`, `host_memory_full`, `checkpoint_full`, `checkpoint_io`).
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
        split: str | int | None = AUTO,
    ) -> None:
        reveal(model)
        source = PlanSource(
            device=device, ram=ram, plan=plan, planner=planner, time_ratio=time_ratio,
            objective=objective, allowed=allowed, flash_write_bytes=flash_write_bytes,
            wall_seconds=wall_seconds, machine=machine_of(device_of(model, batch)),
            paging_directory=paging_directory, flash=flash,
        )  # fmt: skip
        options = StepOptions(
            clip_norm=clip_norm, clip_value=clip_value, accumulate=accumulate, autocast=autocast
        )
        chosen = parse_split(split)
        if program is not None:
            chosen = _check_options(program, options, chosen)

        def traced(split_above_bytes: int | None) -> Program:
            if program is not None:
                return program
            from poet_runtime.tracing.trace import (
                trace,  # 2 s of imports, for nothing with a program
            )

            # Seconds change from run to run, and with them the graph: only for a plan made now.
            seconds = source.plans_for_this_machine
            own = replace(options, split_above_bytes=split_above_bytes)
            return trace(
                model, loss_fn, optimizer, batch, measure_seconds=seconds, name=name, options=own
            )

        self.program, self.plan, self.judgement = traced_and_planned(traced, source, chosen)
        flash = flash or FlashOptions()
        self._others: OtherShapes | None = None
        if check_choice(on_new_shape, flash):
            wishes = same_wishes(source, self.program.options, chosen)
            self._others = OtherShapes(
                lambda other: TrainStep(
                    model, loss_fn, optimizer, other, paging_directory=paging_directory,
                    flash=flash, name=name, log=log, **wishes,
                )
            )  # fmt: skip
        self.running = RunningStep(
            self.program, self.plan.schedule, model, optimizer, as_batch(batch),
            paging_directory=paging_directory, flash=flash, log=log,
        )  # fmt: skip
        self.steps = 0
        self.notes: dict[str, Any] = {}
        self._checkpoints: StepCheckpoints | None = None
        if checkpoint_path is not None:
            try:
                self._checkpoints = StepCheckpoints(checkpoint_path, checkpoint_every, self.running)
            except BaseException:
                self.close()
                raise

    @property
    def executed(self) -> list[Instruction] | None:
        """The instructions of the newest step, where `log` was asked for."""
        return self.running.executed

    def __call__(self, *batch: Any, donate: bool = False) -> torch.Tensor:
        """One step; returns the loss. The batch is copied into memory of the step, or, with
        `donate`, taken over: the tensors passed are empty afterwards.

        Raises UsageError (`batch_mismatch`) and ReplayError (`optimizer_changed`, `state_changed`,
        `mode_changed`) before anything has changed; ReplayError (`flash_corrupt`, `flash_io`, `flash_full`,
        `op_output`, `step_failed`) where the step is void, and `step_void` ever after.
        """
        running, checkpoints = self.running, self._checkpoints
        running.validity.check()
        if checkpoints is not None:
            checkpoints.begin()
        running.modes.check()
        whole = running.inputs.batch_of(batch)
        shapes = None if self._others is None else running.inputs.other_shapes(whole)
        if self._others is None or shapes is None:
            loss = running.step(whole, donate=donate)
        else:
            loss = self._others.step(shapes, whole, running, donate=donate)
        self.steps += not running.accumulating
        if checkpoints is not None and checkpoints.due(self.steps):
            self.checkpoint()
        return loss

    def park(self) -> None:
        """Parks now what the next step would park first: RAM holds what the plan keeps there."""
        self.running.park()

    def write_back(self) -> None:
        """Brings every value back into model and optimizer, step counts included."""
        self.running.write_back()

    def checkpoint(self) -> None:
        """Writes a checkpoint now: model, optimizer, generator, `steps` and `notes` (JSON values of
        yours), as they are after the newest step. Takes no RAM but a buffer.

        Raises UsageError (`no_checkpoint_path`, `checkpoint_too_early`, `checkpoint_exists`,
        `checkpoint_accumulating`, `checkpoint_value`) and ReplayError (`checkpoint_full`, `checkpoint_io`); after these the
        older checkpoint and the training state are untouched, and training may go on. A fault of
        the paging file (`flash_...`) voids the state as it does in a step.
        """
        self.running.validity.check()
        self._known_checkpoints().write(self.steps, self.notes)

    def resume(self) -> Resumed:
        """Puts the newest whole checkpoint into model, optimizer and generator; `steps` and `notes`
        become its own. Without one everything stays as it is. What follows is what would have
        followed the step after which it was written.

        Raises UsageError (`no_checkpoint_path`) and DataError (`checkpoint_mismatch`,
        `checkpoint_corrupt`) before anything has changed; ReplayError where the state is void.
        """
        resumed = self._known_checkpoints().resume()
        if resumed is None:
            return Resumed(steps=0, notes={})
        self.steps, self.notes = resumed.steps, dict(resumed.notes)
        return resumed

    def wear(self) -> WearReport:
        """What this TrainStep has written to flash, and waited for it; `.line()` for people."""
        own = self.running.wear(self.judgement.flash_bytes_written)
        if self._checkpoints is not None:
            own = replace(own, checkpoint_bytes=self._checkpoints.bytes_written)
        return own if self._others is None else self._others.added_to(own)

    def summary(self) -> PlanSummary:
        """The plan against its budget, keep-everything and the floor; `.line()` for people."""
        return summarize(self.program.graph, self.plan, self.judgement)

    def reallocate(self) -> None:
        """Parks, and moves every value that stays in RAM to new memory, for `measured_peak`."""
        self.running.reallocate()

    def close(self) -> None:
        """Brings everything back, removes the hooks, ends the I/O thread, deletes the paging file.

        After a void step what was lost is filled with NaN instead, so that load_state_dict works.
        May be repeated.
        """
        with ExitStack() as exits:
            if self._checkpoints is not None:
                exits.callback(self._checkpoints.close)
            exits.callback(self.running.close)
            if self._others is not None:
                exits.callback(self._others.close)

    def _known_checkpoints(self) -> StepCheckpoints:
        if self._checkpoints is None:
            raise UsageError(
                "This TrainStep was made without checkpoint_path.",
                code="no_checkpoint_path",
                hint="Pass checkpoint_path=... when you make it.",
            )
        return self._checkpoints


def _check_options(program: Program, options: StepOptions, split: Split) -> Split:
    """What a given program was split above. Raises UsageError (`program_options`)."""
    known = program.options.split_above_bytes
    asked = replace(options, split_above_bytes=known if split == AUTO else split)
    if asked not in (StepOptions(), StepOptions(split_above_bytes=known), program.options):
        raise UsageError(
            f"The program was traced with {program.options}, not with {asked}.",
            code="program_options",
            hint="Leave the options out where a program is given: it has its own.",
        )
    return known
