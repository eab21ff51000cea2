"""The worker: `python -m poet_runtime.isolated_worker FOLDER` trains what FOLDER holds.

It imports torch and the replay: no tracer, no solver, no service, none of the user's code. Its
standard input brings messages, its standard output answers them, one each (see `isolated`):

    begin   the limits              -> ready: what is planned
    limit   another limit of the arena
    step    a batch                 -> the loss
    report                          -> the arena's statistics and who exceeded the plan
    state                           -> every tensor, written to the folder one storage at a time

Invariant: an error is answered, with its code, and never ends the worker; the end of input does.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from poet_core.errors import PoetError
from poet_core.plan import Do, Instruction
from poet_runtime.arena import GRANULE_BYTES, Arena
from poet_runtime.isolated_channel import Channel
from poet_runtime.isolated_job import (
    RESULT,
    Job,
    batch_shapes,
    empty_like_batch,
    filled_form,
)
from poet_runtime.isolated_program import decoded
from poet_runtime.isolated_skeleton import skeleton_document
from poet_runtime.isolated_tensors import Key, Shape, forget_pages, shape_of, write_tensors
from poet_runtime.measured_peak import unplanned_bytes
from poet_runtime.program import Owner
from poet_runtime.replay import CompiledStep
from poet_runtime.train_step import TrainStep


class _Tags(list[Instruction]):
    """Takes the place of a log: counts what has been executed, so the tag is what is under way."""

    def __init__(self, tag: memoryview) -> None:
        super().__init__()
        self._tag, self._count = tag, 0

    def append(self, _: Instruction) -> None:
        self._count += 1
        self._tag[0] = self._count


class _Tagged(CompiledStep):
    """A compiled step that says to the arena which instruction is under way."""

    tag: memoryview

    def __call__(self, resident: Any, **options: Any) -> Any:
        self.tag[0] = 0
        try:
            return super().__call__(resident, **options | {"log": _Tags(self.tag)})
        finally:
            self.tag[0] = -1


class _WorkerStep(TrainStep):
    """A TrainStep whose values can be read one at a time, and whose ops can be told apart."""

    def tag_instructions(self, arena: Arena) -> None:
        """Tags from now on."""
        self._compiled = _Tagged(self.program, self.plan.schedule)
        self._compiled.tag = arena.tag_view

    def values(self) -> tuple[list[Shape], Iterator[torch.Tensor]]:
        """Every tensor of the state; those on flash are read when their turn comes."""
        for rule in self.program.update_rules:
            rule.store(self._optimizer)
        owners = {Owner.MODULE: "model", Owner.OPTIMIZER: "optimizer"}
        bound = {
            (owners[b.owner], b.name, *([b.state_key] if b.state_key else [])): storage
            for storage, b in self._holders.bindings.items()
            if b.owner in owners
        }
        live = _live_tensors(self._model, self._optimizer)
        shapes = [
            Shape(key=key, dtype=spec.dtype, size=spec.size)
            if (spec := self._spec(bound.get(key))) is not None
            else shape_of(key, tensor)
            for key, tensor in live.items()
        ]
        return shapes, (self._value(bound.get(key), tensor) for key, tensor in live.items())

    def _spec(self, storage: int | None) -> Any:
        return None if storage is None else self._holders.bindings[storage].spec

    def _value(self, storage: int | None, tensor: torch.Tensor) -> torch.Tensor:
        if storage is None:
            return tensor
        parked = self._parking.is_parked and storage in self.plan.schedule.start_flash
        if not parked or storage in self.plan.schedule.start_ram:
            return self._holders.fetch(storage)
        assert self._pager is not None
        value = self._holders.blank(storage)
        place = self._compiled.layout.homes[storage]
        self._pager.wait(self._pager.page_in(storage, place, value))
        return value


def _live_tensors(model: torch.nn.Module, optimizer: Any) -> dict[Key, torch.Tensor]:
    found: dict[Key, torch.Tensor] = {("generator",): torch.get_rng_state()}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        found["model", name] = tensor
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                found["optimizer", name, key] = value
    return found


class Worker:
    """One job, from `begin` to the end of input."""

    def __init__(self, folder: Path, channel: Channel) -> None:
        self._folder, self._channel = folder, channel
        self._arena = Arena.active()
        self._other_bytes = 0
        self._first_step_bytes: int | None = None
        self._span_bytes = 0

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Does what a message asks."""
        act = {
            "begin": self._begin,
            "limit": self._limit,
            "step": self._step_once,
            "report": self._report,
            "state": self._write_state,
        }[message["do"]]
        return act(message)

    def _begin(self, message: Mapping[str, Any]) -> dict[str, Any]:
        job = Job(self._folder)
        self._step = _WorkerStep(
            job.model, _no_loss, job.optimizer, job.batch,  # type: ignore[arg-type] # a skeleton
            plan=job.plan, program=job.program, paging_directory=message["paging_directory"],
            flash_write_bytes=message["flash_write_bytes"],
        )  # fmt: skip
        self._optimizer, self._batch = job.optimizer, job.batch
        self._shapes = batch_shapes(job.batch)
        torch.set_rng_state(job.state.tensors["generator",].clone())
        # Parks what starts on flash and moves the rest out of the mapped file, into the arena.
        self._step.reallocate()
        job.state.forget_pages()
        del job
        gc.collect()
        if self._arena is not None:
            self._arena.trim()
            self._arena.limit(message["resident_bytes"], hard=message["hard"])
            self._arena.reset()
            self._other_bytes = unplanned_bytes(self._step, self._arena)
            if message["tags"]:
                self._step.tag_instructions(self._arena)
        return {"planned_bytes": self._step.judgement.peak_bytes}

    def _limit(self, message: Mapping[str, Any]) -> dict[str, Any]:
        assert self._arena is not None
        self._arena.limit(message["resident_bytes"])
        return {}

    def _after_first_step(self, arena: Arena) -> None:
        """Kernels are made and kept now: from here on the plan is what is taken, or an excess."""
        found = arena.statistics()
        self._first_step_bytes = found.peak_in_use_bytes - self._other_bytes
        self._span_bytes = found.peak_span_bytes
        self._other_bytes = unplanned_bytes(self._step, arena)
        arena.reset()
        arena.plan(self._other_bytes + self._step.judgement.peak_bytes + GRANULE_BYTES)

    def _step_once(self, message: Mapping[str, Any]) -> dict[str, Any]:
        tensors = self._channel.receive_tensors(self._shapes, empty_like_batch)
        for group, values in zip(
            self._optimizer.param_groups, message.get("groups") or (), strict=False
        ):
            group.update((key, decoded(value)) for key, value in values.items())
        batch = filled_form(self._batch, tensors)
        begin = time.perf_counter()
        del tensors
        arguments = (batch,) if isinstance(batch, dict) else batch
        loss = float(self._step(*arguments, donate=True)).hex()
        seconds = time.perf_counter() - begin
        del batch, arguments
        if self._arena is not None and self._first_step_bytes is None:
            self._after_first_step(self._arena)
        return {"loss": loss, "seconds": seconds}

    def _report(self, _: Mapping[str, Any]) -> dict[str, Any]:
        if self._arena is None:
            return {"arena": None, "other_bytes": 0, "peak_at": "", "excess_at": ""}
        found = self._arena.statistics()
        return {
            "arena": asdict(found),
            "held_bytes": self._arena.held_bytes(),
            "other_bytes": self._other_bytes,
            "first_step_bytes": self._first_step_bytes,
            "span_bytes": max(self._span_bytes, found.peak_span_bytes),
            "peak_at": self._instruction(found.peak_in_use_tag),
            "excess_at": self._instruction(found.first_excess_tag) if found.excesses else "",
        }

    def _write_state(self, _: Mapping[str, Any]) -> dict[str, Any]:
        shapes, values = self._step.values()
        write_tensors(self._folder / RESULT, shapes, values)
        forget_pages(self._folder / RESULT)
        document = skeleton_document(self._step._model, self._optimizer)
        return {"state": document["state"]}

    def _instruction(self, tag: int) -> str:
        """What instruction a tag means: `op 17 layer.weight.update`, or "" for none."""
        instructions = self._step.plan.schedule.instructions
        if not 0 <= tag < len(instructions):
            return ""
        instruction, graph = instructions[tag], self._step.program.graph
        if instruction.do is Do.COMPUTE:
            return f"op {instruction.target} {graph.ops[instruction.target].name}"
        return f"{instruction.do.value} of storage {instruction.target}"


def _no_loss(*_: Any) -> torch.Tensor:
    raise AssertionError("the loss is in the program")


def main() -> None:
    """Serves standard input until it ends."""
    # Output is for messages: what anyone prints goes to the error output.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ.pop("LD_PRELOAD", None)  # for this process, not for those that it may start
    channel = Channel(sys.stdin.buffer, answers)
    worker = Worker(Path(sys.argv[1]), channel)
    while (message := channel.receive()) is not None:
        try:
            reply = worker.answer(message)
        except PoetError as error:
            reply = {"error": error.to_document()}
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            reply = {"error": {"code": "worker_failed", "detail": repr(error), "hint": ""}}
        channel.send(reply)


if __name__ == "__main__":
    main()
