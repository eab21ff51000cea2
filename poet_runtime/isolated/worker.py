"""The worker: `python -m poet_runtime.isolated.worker FOLDER` trains what FOLDER holds.

It imports torch and the replay: no tracer, no solver, no service, none of the user's code. Its
standard input brings messages, its standard output answers them, one each (see `isolated`):

    begin        the limits, how flash is used, where checkpoints go   -> what is planned
    limit        another limit of the arena
    step         a batch, hyperparameters and notes that have changed  -> the loss, steps so far
    checkpoint   the notes, where they have changed
    resume                                          -> steps, notes, hyperparameters
    wear                                            -> what was written to flash
    report                                          -> the arena's statistics, who exceeded the plan
    state                     -> every tensor, written to the folder one storage at a time

Invariant: an error is answered, with its kind and code, and never ends the worker; the end of
input does, and the folder goes with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from poet_core.errors import PoetError
from poet_runtime.flash.flash_file import OpenDisk, SystemDisk
from poet_runtime.isolated.channel import Channel
from poet_runtime.isolated.flash import flash_from_document
from poet_runtime.isolated.job import (
    RESULT,
    STATE,
    Job,
    batch_shapes,
    empty_like_batch,
    filled_form,
)
from poet_runtime.isolated.skeleton import hyperparameters, set_hyperparameters, skeleton_document
from poet_runtime.isolated.tensors import forget_pages, write_tensors
from poet_runtime.isolated.worker_step import WorkerStep
from poet_runtime.memory.arena import GRANULE_BYTES, Arena
from poet_runtime.memory.measured_peak import unplanned_bytes


class Worker:
    """One job, from `begin` to the end of input."""

    def __init__(self, folder: Path, channel: Channel, open_disk: OpenDisk) -> None:
        self._folder, self._channel, self._open_disk = folder, channel, open_disk
        self._arena = Arena.active()
        self._begun: WorkerStep | None = None
        self._other_bytes = 0
        self._first_step_bytes: int | None = None
        self._span_bytes = 0

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Does what a message asks."""
        act = {
            "begin": self._begin,
            "limit": self._limit,
            "step": self._step_once,
            "checkpoint": self._checkpoint,
            "resume": self._resume,
            "wear": self._wear,
            "report": self._report,
            "state": self._write_state,
        }[message["do"]]
        return act(message)

    def _begin(self, message: Mapping[str, Any]) -> dict[str, Any]:
        job = Job(self._folder)
        self._begun = WorkerStep(
            job.model, _no_loss, job.optimizer, job.batch,  # type: ignore[arg-type] # a skeleton
            plan=job.plan, program=job.program, paging_directory=message["paging_directory"],
            flash_write_bytes=message["flash_write_bytes"],
            flash=flash_from_document(message["flash"], self._open_disk),
            checkpoint_path=message["checkpoint_path"],
            checkpoint_every=message["checkpoint_every"],
        )  # fmt: skip
        if self._arena is not None and message["tags"]:
            self._step.tag_instructions(self._arena)
        self._optimizer, self._batch = job.optimizer, job.batch
        self._shapes = batch_shapes(job.batch)
        torch.set_rng_state(job.state.tensors["generator",].clone())
        # Parks what starts on flash and moves the rest out of the mapped file, into the arena.
        self._step.reallocate()
        job.state.forget_pages()
        self._folder.joinpath(STATE).unlink()  # what still maps it keeps what it needs of it
        self._model = job.model
        del job
        _give_back_heap()
        if self._arena is not None:
            self._arena.trim()
            self._arena.limit(message["resident_bytes"], hard=message["hard"])
            self._arena.reset()
            self._other_bytes = unplanned_bytes(self._step, self._arena)
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
        _give_back_heap()
        self._other_bytes = unplanned_bytes(self._step, arena)
        arena.reset()
        arena.plan(self._other_bytes + self._step.judgement.peak_bytes + GRANULE_BYTES)

    def _step_once(self, message: Mapping[str, Any]) -> dict[str, Any]:
        tensors = self._channel.receive_tensors(self._shapes, empty_like_batch)
        self._take_wishes(message)
        batch = filled_form(self._batch, tensors)
        begin = time.perf_counter()
        del tensors
        arguments = (batch,) if isinstance(batch, dict) else batch
        loss = float(self._step(*arguments, donate=True)).hex()
        seconds = time.perf_counter() - begin
        del batch, arguments
        if self._arena is not None and self._first_step_bytes is None:
            self._after_first_step(self._arena)
        return {"loss": loss, "seconds": seconds, "completed": self._step.steps}

    def _take_wishes(self, message: Mapping[str, Any]) -> None:
        """What the other side has changed since its last message."""
        set_hyperparameters(self._optimizer, message.get("groups") or ())
        if "notes" in message:
            self._step.notes = message["notes"]

    def _checkpoint(self, message: Mapping[str, Any]) -> dict[str, Any]:
        self._take_wishes(message)
        self._step.checkpoint()
        return {}

    def _resume(self, _: Mapping[str, Any]) -> dict[str, Any]:
        found = self._step.resume()
        return asdict(found) | {
            "groups": hyperparameters(self._optimizer),
            "completed": self._step.steps,
        }

    def _wear(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return asdict(self._step.wear())

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
            "peak_at": self._step.instruction(found.peak_in_use_tag),
            "excess_at": self._step.instruction(found.first_excess_tag) if found.excesses else "",
        }

    def _write_state(self, _: Mapping[str, Any]) -> dict[str, Any]:
        shapes, values = self._step.values()
        if self._arena is not None:
            self._arena.trim()  # room for one value at a time, and for the pages of the file
        write_tensors(self._folder / RESULT, shapes, values)
        forget_pages(self._folder / RESULT)
        document = skeleton_document(self._model, self._optimizer)
        return {"state": document["state"]}

    def standing(self) -> dict[str, Any]:
        """After an error: whether the state is lost, and completed steps."""
        step = self._begun
        return {"void": step is not None and step.void, "completed": step.steps if step else 0}

    @property
    def _step(self) -> WorkerStep:
        assert self._begun is not None, "the first message is `begin`"
        return self._begun


def _give_back_heap() -> None:
    """What reading and compiling have left free in libc's heap goes back to the system."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc's, malloc_trim(3)
        library.malloc_trim(0)


def _no_loss(*_: Any) -> torch.Tensor:
    raise AssertionError("the loss is in the program")


def main(open_disk: OpenDisk = SystemDisk) -> None:
    """Serves standard input until it ends. `open_disk`: see FlashOptions."""
    # Output is for messages: what anyone prints goes to the error output.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ.pop("LD_PRELOAD", None)  # for this process, not for those that it may start
    channel = Channel(sys.stdin.buffer, answers)
    worker = Worker(Path(sys.argv[1]), channel, open_disk)
    while (message := channel.receive()) is not None:
        try:
            reply = worker.answer(message)
        except PoetError as error:
            kind = type(error).__name__
            reply = {"error": error.to_document(), "kind": kind} | worker.standing()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
            document = {"code": "worker_failed", "detail": repr(error), "hint": ""}
            reply = {"error": document, "kind": "ReplayError"} | worker.standing()
        channel.send(reply)
    # Also where nobody else is left to do it: the other side may have been killed.
    shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
