"""IsolatedStep: a step traced and planned here, trained in a process of its own under a hard cap.

    step = IsolatedStep(model, optimizer, program, plan, batch, cap_bytes=512 << 20)
    for batch in loader:
        loss = step(*batch)
    print(step.memory().line())
    step.close()                      # model and optimizer have the trained values

This process (tracer, solver, the user's model) is not in the cap: its worker is, which imports
torch and the replay only, allocates from the arena where there is one, and runs in a memory group
where one can be made. Without either it trains the same bits, and `missing` says what is not bound.

Invariant: between the first step and `close` (or `collect`) the worker has the only true values;
once they are lost (`step_void`, a dead worker), model and optimizer here stay as they were before.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from poet_core.errors import ReplayError, UsageError
from poet_core.plan import Plan
from poet_runtime.checkpointing.checkpoints import Resumed
from poet_runtime.closing import Closing
from poet_runtime.flash.paging_directory import check_paging_file, choose_paging_directory
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.wear import WearReport
from poet_runtime.isolated.flash import absolute, flash_to_document
from poet_runtime.isolated.job import RESULT, batch_shapes, write_job
from poet_runtime.isolated.memory import IsolatedMemory
from poet_runtime.isolated.process import WorkerProcess
from poet_runtime.isolated.skeleton import give_back, hyperparameters, set_hyperparameters
from poet_runtime.isolated.tensors import read_tensors
from poet_runtime.program import Program

# Beside the arena's limit, under a cap: what libraries map in the first step (oneDNN writes its
# kernels then: 6 MiB for ResNet-18), and what the kernel takes for itself or varies from step to
# step (the group's peak less the arena's was some 154 to 158 MiB for ResNet-18 over caps and sizes,
# benchmarks.capped). Room that is not used is what the group's peak stays below the cap, so it is
# a part of the cap: 1/64, within limits.
_FIRST_STEP_ROOM = 32 << 20
_LEAST_ROOM, _MOST_ROOM, _ROOMS = 4 << 20, 10 << 20, 64


class IsolatedStep(Closing):
    """See the module. `cap_bytes`: the kernel's limit on the worker, all of it; `resident_bytes`:
    the arena's limit (default: what the cap leaves it; without a cap none, because keeping freed
    pages is faster), `hard` where it is to refuse; `tags`: name the op of the peak, for about half
    a microsecond an instruction. `counted`: make a memory group without a cap, to count. `arena`:
    another build of its library, or False for libc's allocator.

    `paging_directory`, `flash`, `flash_write_bytes`, `checkpoint_path`, `checkpoint_every`, and
    `steps`, `notes`, `checkpoint()`, `resume()`, `wear()` are TrainStep's; the worker itself writes
    and reads checkpoints, which TrainStep reads too. Calls add gradients up where the program was
    traced with `accumulate`.

    Raises ReplayError: `no_cgroup` where a cap is asked for and none can be set, `no_arena` where
    `resident_bytes` is, `step_not_portable`, `worker_killed`, and what TrainStep raises.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        program: Program,
        plan: Plan,
        batch: tuple[Any, ...] | Mapping[str, Any],
        *,
        cap_bytes: int | None = None,
        resident_bytes: int | None = None,
        hard: bool = False,
        tags: bool = True,
        counted: bool = False,
        arena: Path | bool = True,
        paging_directory: str | os.PathLike[str] | None = None,
        flash: FlashOptions | None = None,
        flash_write_bytes: int | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        self._model, self._optimizer = model, optimizer
        batch = dict(batch) if isinstance(batch, Mapping) else batch
        self._names = tuple(batch) if isinstance(batch, dict) else ()
        self._form = pytree.tree_structure(batch)
        self._shapes = batch_shapes(batch)
        self.notes: dict[str, Any] = {}
        self.newest_step_seconds = 0.0
        self._sent_notes: dict[str, Any] = {}
        self._groups = hyperparameters(optimizer)
        self._closed = self._trained = False
        flash = flash or FlashOptions()
        message = {
            "do": "begin",
            "flash": flash_to_document(flash),
            "flash_write_bytes": flash_write_bytes,
            "checkpoint_path": absolute(checkpoint_path),
            "checkpoint_every": checkpoint_every,
            "resident_bytes": resident_bytes,
            "hard": hard,
            "tags": tags,
        }
        self._exits = ExitStack()
        try:
            if flash.file is not None:
                check_paging_file(flash.file, allow_ram=flash.allow_ram)
            place = choose_paging_directory(paging_directory, allow_ram=flash.allow_ram)
            folder = tempfile.TemporaryDirectory(prefix="poet-", dir=place)
            self._folder = Path(self._exits.enter_context(folder))
            write_job(
                self._folder, program, plan, model, optimizer, batch,
                threads=torch.get_num_threads(),
            )  # fmt: skip
            self._worker = WorkerProcess(
                self._folder, self._exits, cap_bytes=cap_bytes, counted=counted, arena=arena,
                needs_arena=resident_bytes is not None,
            )  # fmt: skip
            self.missing = self._worker.missing
            ready = self._worker.ask(message | {"paging_directory": absolute(place)})
            self._planned_bytes: int = ready["planned_bytes"]
            self._cap_bytes = cap_bytes if resident_bytes is None else None
            self._share_cap(_FIRST_STEP_ROOM)
            self._count_from_here()
        except BaseException:
            self._exits.close()
            raise

    @property
    def steps(self) -> int:
        """Completed optimizer's steps, those before a checkpoint that was resumed included."""
        return self._worker.steps

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """One step in the worker on a batch, or on the mapping that is one; returns the loss.

        Raises UsageError (`batch_mismatch`) before anything has changed, and what TrainStep raises.
        """
        self._check_open()
        batch: Any = arguments
        if self._names and len(arguments) == 1 and set(arguments[0]) == set(self._names):
            batch = {name: arguments[0][name] for name in self._names}
        if pytree.tree_structure(batch) != self._form or batch_shapes(batch) != self._shapes:
            raise UsageError(
                "Expected a batch with the structure, shapes and types of the example.",
                code="batch_mismatch",
                hint="A step is traced for one shape: drop the last, smaller batch.",
            )
        message = {"do": "step"} | self._wishes()
        tensors = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
        first, self._trained = not self._trained, True
        reply = self._worker.ask(message, tensors)
        if first:
            self._share_cap(max(_LEAST_ROOM, min(_MOST_ROOM, (self._cap_bytes or 0) // _ROOMS)))
        self.newest_step_seconds = reply["seconds"]
        return torch.tensor(float.fromhex(reply["loss"]))

    def checkpoint(self) -> None:
        """Has the worker write a checkpoint now; see TrainStep."""
        self._check_open()
        self._worker.ask({"do": "checkpoint"} | self._wishes())

    def resume(self) -> Resumed:
        """Has the worker take over the newest whole checkpoint; hyperparameters, `steps` and `notes`
        become its own here too. See TrainStep."""
        self._check_open()
        reply = self._worker.ask({"do": "resume"})
        found = Resumed(steps=reply["steps"], notes=reply["notes"], skipped=tuple(reply["skipped"]))
        if found.steps:
            self._trained = True
            set_hyperparameters(self._optimizer, reply["groups"])
            self._groups = hyperparameters(self._optimizer)
            self.notes = dict(found.notes)
            self._sent_notes = dict(found.notes)
        return found

    def wear(self) -> WearReport:
        """What the worker has written to flash, and waited for it; `.line()` for people."""
        self._check_open()
        return WearReport(**self._worker.ask({"do": "wear"}))

    def memory(self) -> IsolatedMemory:
        """What the worker has taken since it was ready."""
        self._check_open()
        found = self._worker.ask({"do": "report"})
        statistics: Mapping[str, int] | None = found["arena"]
        other: int = found["other_bytes"]
        return IsolatedMemory(
            planned_bytes=self._planned_bytes,
            arena_bytes=statistics["peak_in_use_bytes"] - other if statistics else None,
            first_step_bytes=found["first_step_bytes"] if statistics else None,
            library_bytes=other if statistics else None,
            resident_bytes=statistics["peak_resident_bytes"] if statistics else None,
            group_bytes=self.group_peak_bytes(),
            peak_at=found["peak_at"],
            excess_at=found["excess_at"],
            statistics=statistics,
        )

    def group_peak_bytes(self) -> int | None:
        """The most that the kernel charged to the worker since it was ready; also amid a step, from
        another thread. None where nothing counts."""
        group = self._worker.group
        return group.peak_bytes() if group is not None and not self._closed else None

    def collect(self) -> None:
        """Copies the worker's values into model, optimizer and generator of this process; gradients
        of a round of calls that is not over into `.grad`."""
        self._check_open()
        reply = self._worker.ask({"do": "state"})
        give_back(self._model, self._optimizer, reply, read_tensors(self._folder / RESULT).tensors)

    def discard(self) -> None:
        """What was trained is not wanted here: `close` need not collect it."""
        self._trained = False

    def close(self) -> None:
        """Collects what was trained, ends the worker and removes its files. May be repeated."""
        if self._closed:
            return
        try:
            if self._trained and not self._worker.void:
                self.collect()
        finally:
            self._closed = True
            self._exits.close()

    def _wishes(self) -> dict[str, Any]:
        """What has changed here since the last message."""
        wishes: dict[str, Any] = {}
        groups = hyperparameters(self._optimizer)
        if groups != self._groups:
            wishes["groups"] = self._groups = groups
        if self.notes != self._sent_notes:
            wishes["notes"] = self._sent_notes = dict(self.notes)
        return wishes

    def _share_cap(self, room_bytes: int) -> None:
        """Gives the arena what the cap leaves: pages that are kept need no fault."""
        group = self._worker.group
        if group is None or self._cap_bytes is None:
            return
        found = self._worker.ask({"do": "report"})
        if found["arena"] is None:
            return
        # Blocks may have pages that nobody has touched: what is held counts, not what may be.
        others = group.anonymous_bytes() - found["held_bytes"]
        # Less than the blocks themselves take would only be faulted in again and again.
        least = max(self._planned_bytes, found["span_bytes"])
        limit = max(least, self._cap_bytes - others - room_bytes)
        self._worker.ask({"do": "limit", "resident_bytes": limit})

    def _count_from_here(self) -> None:
        """What reading the job took is not training's."""
        if self._worker.group is not None:
            self._worker.group.reset_peak()

    def _check_open(self) -> None:
        if self._closed:
            raise ReplayError("This IsolatedStep is closed.", code="step_closed")
