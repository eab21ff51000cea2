"""The step inside a worker: a TrainStep whose parked values are read and replaced one at a time.

The state may be larger than the worker's cap, so nothing here ever takes all of it into RAM: values
are read for the parent, and restored from a checkpoint, storage by storage, from flash or to it.
Invariant: what is parked stays parked; only `values` and `resume` touch it, between steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from poet_core.plan import Do, Instruction
from poet_runtime.checkpointing.checkpoints import Resumed
from poet_runtime.isolated.resume import resume_parked
from poet_runtime.isolated.tensors import Key, Shape, shape_of
from poet_runtime.memory.arena import Arena
from poet_runtime.program import Owner
from poet_runtime.replaying.replay import CompiledStep
from poet_runtime.replaying.wholes import Whole
from poet_runtime.train_step import TrainStep

_OWNERS = {Owner.MODULE: "model", Owner.OPTIMIZER: "optimizer", Owner.GRADIENT: "gradient"}


class _Tags(list[Instruction]):
    """Takes the place of a log: counts what has been executed, so the tag is what is under way."""

    def __init__(self, tag: memoryview, begin: int) -> None:
        super().__init__()
        self._tag, self._count = tag, begin

    def append(self, _: Instruction) -> None:
        self._count += 1
        self._tag[0] = self._count


class _Tagged:
    """A compiled step that says to the arena which instruction is under way, from `begin` on."""

    def __init__(self, compiled: CompiledStep, tag: memoryview, begin: int) -> None:
        self._compiled, self._tag, self._begin = compiled, tag, begin
        self.layout, self.schedule = compiled.layout, compiled.schedule
        # Compiling takes megabytes for a deep step, so it is done before the arena has grown.
        compiled._variants.clear()
        compiled.source = ""
        for checked in (True, False):
            source, function = compiled._variant(checked=checked, logged=True)
            compiled._variants[checked, True] = replace(source, text=""), function

    def __call__(self, resident: Any, *, checked: bool = False, **options: Any) -> Any:
        if not checked:
            self._compiled._variants.pop((True, True), None)  # it will not run again
        self._tag[0] = self._begin
        log = _Tags(self._tag, self._begin)
        try:
            return self._compiled(resident, checked=checked, **options | {"log": log})
        finally:
            self._tag[0] = -1


class WorkerStep(TrainStep):
    """See the module."""

    @property
    def void(self) -> bool:
        """Whether a step has not completed."""
        return bool(self.running.validity.void)

    def tag_instructions(self, arena: Arena) -> None:
        """Tags from now on: those of a call that only adds gradients up follow the others."""
        running, whole = self.running, self.running.compiled
        one = running.compiled_adding is whole
        tagged: Any = _Tagged(whole, arena.tag_view, 0)
        begin = len(whole.schedule.instructions)
        adding: Any = tagged if one else _Tagged(running.compiled_adding, arena.tag_view, begin)
        running.compiled, running.compiled_adding = tagged, adding

    def instruction(self, tag: int) -> str:
        """What instruction a tag means: `op 17 layer.weight.update`, or "" for none."""
        instructions = [
            *self.running.compiled.schedule.instructions,
            *self.running.compiled_adding.schedule.instructions,
        ]
        if not 0 <= tag < len(instructions):
            return ""
        instruction, graph = instructions[tag], self.program.graph
        if instruction.do is Do.COMPUTE:
            return f"op {instruction.target} {graph.ops[instruction.target].name}"
        return f"{instruction.do.value} of storage {instruction.target}"

    def values(self) -> tuple[list[Shape], Iterator[torch.Tensor]]:
        """Every tensor of the state; those on flash are read when their turn comes. Raises
        ReplayError (`step_void`)."""
        running = self.running
        running.park()
        if self.steps:
            running.store_counts()
        bound, live = self._bound(), self._live_tensors()
        if not self.steps:  # the optimizer is as it was; zeros that were made here are no state
            live = {key: tensor for key, tensor in live.items() if key[0] != "optimizer"}
        begun = running.micro_batches.begun if running.micro_batches is not None else ()
        adding = [key for key in bound if key[0] == "gradient" and key[1] in begun]
        keys = [*live, *adding]
        shapes = [
            Shape(key=key, dtype=bound[key].spec.dtype, size=bound[key].spec.size)
            if key in bound
            else shape_of(key, live[key])
            for key in keys
        ]
        return shapes, (
            running.parking.value(bound[key]) if key in bound else live[key] for key in keys
        )

    def resume(self) -> Resumed:
        """As TrainStep's, within the plan's RAM (see `resume`)."""
        checkpointer = self._known_checkpoints().checkpointer
        found = resume_parked(checkpointer, self.running)
        if found is None:
            return Resumed(steps=0, notes={})
        self.steps, self.notes = found.steps, dict(found.notes)
        return found

    def _bound(self) -> dict[Key, Whole]:
        wholes = self.running.holders.wholes.items()
        return {
            (_OWNERS[owner], name, *([state_key] if state_key else [])): whole
            for (owner, name, state_key), whole in wholes
        }

    def _live_tensors(self) -> dict[Key, torch.Tensor]:
        model, state = self.running.model, self.running.optimizer.state
        found: dict[Key, torch.Tensor] = {("generator",): torch.get_rng_state()}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            found["model", name] = tensor
        for name, parameter in model.named_parameters():
            for key, value in state.get(parameter, {}).items():
                if isinstance(value, torch.Tensor):
                    found["optimizer", name, key] = value
        return found
