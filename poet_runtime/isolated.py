"""IsolatedStep: a step traced and planned here, trained in a process of its own under a hard cap.

    step = IsolatedStep(model, optimizer, program, plan, batch, cap_bytes=512 << 20)
    for batch in loader:
        loss = step(*batch)
    print(step.memory().line())
    step.close()                      # model and optimizer have the trained values

This process (tracer, solver, the user's model) is not in the cap: its worker is, which imports
torch and the replay only, allocates from the arena where there is one, and runs in a memory group
where one can be made. Without either it trains the same bits, and `missing` says what is not bound.

Invariant: between the first step and `close` (or `collect`) the worker has the only true values.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils import _pytree as pytree

from poet_core.errors import PoetError, ReplayError, UsageError
from poet_core.plan import Plan
from poet_core.units import format_bytes
from poet_runtime.arena import arena_environment, why_no_arena
from poet_runtime.cgroup import MemoryCgroup, memory_cgroup
from poet_runtime.isolated_channel import Channel
from poet_runtime.isolated_job import RESULT, batch_shapes, write_job
from poet_runtime.isolated_skeleton import give_back, group_values
from poet_runtime.isolated_tensors import read_tensors
from poet_runtime.paging_directory import choose_paging_directory
from poet_runtime.program import Program

_WORKER = "poet_runtime.isolated_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedMemory:
    """What the worker took, in bytes, each from a source of its own; None where there is none.

    `planned`: the judge's peak. `arena`: the most that was in use in the arena after the first
    step, less `library`: what is in use between steps and in no plan, which is what libraries keep
    (oneDNN's kernels, made in the first step). `first_step`: the same of the first step, that
    making included. `resident`: the most that the arena may have had in RAM, all of it. `group`:
    the most that the kernel charged to the worker since it was ready, interpreter and code
    included. `excess_at`: the instruction that, after the first step, first took more than planned
    by more than a granule; "" for none.
    """

    planned_bytes: int
    arena_bytes: int | None
    first_step_bytes: int | None
    library_bytes: int | None
    resident_bytes: int | None
    group_bytes: int | None
    peak_at: str
    excess_at: str
    statistics: Mapping[str, int] | None

    def line(self) -> str:
        """For people."""
        parts = [f"planned {format_bytes(self.planned_bytes)}"]
        for name, found in (
            ("arena", self.arena_bytes),
            ("resident", self.resident_bytes),
            ("whole process", self.group_bytes),
        ):
            parts.append(f"{name} {'not measured' if found is None else format_bytes(found)}")
        if self.excess_at:
            parts.append(f"exceeded first at {self.excess_at}")
        return ", ".join(parts)


# Beside the arena's limit, under a cap: what libraries map in the first step (oneDNN writes its
# kernels then: 6 MiB for ResNet-18), and what the kernel takes for itself or varies from step to
# step (the group's peak less the arena's was some 154 to 158 MiB for ResNet-18 over caps and sizes,
# benchmarks.capped).
_FIRST_STEP_ROOM, _ROOM = 32 << 20, 10 << 20


class IsolatedStep:
    """See the module. `cap_bytes`: the kernel's limit on the worker, all of it; `resident_bytes`:
    the arena's limit (default: what the cap leaves it; without a cap none, because keeping freed
    pages is faster), `hard` where it is to refuse; `tags`: name the op of the peak, for about half
    a microsecond an instruction.

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
        flash_write_bytes: int | None = None,
    ) -> None:
        """`counted`: make a memory group without a cap, to count. `arena`: another build of its
        library, or False for libc's allocator."""
        self._model, self._optimizer = model, optimizer
        batch = dict(batch) if isinstance(batch, Mapping) else batch
        self._names = tuple(batch) if isinstance(batch, dict) else ()
        self._form = pytree.tree_structure(batch)
        self._shapes = batch_shapes(batch)
        self._exits = ExitStack()
        self._group: MemoryCgroup | None = None
        self.missing: tuple[str, ...] = ()
        self._groups = self._hyperparameters()
        try:
            place = choose_paging_directory(paging_directory)
            folder = tempfile.TemporaryDirectory(prefix="poet-", dir=place)
            self._folder = Path(self._exits.enter_context(folder))
            write_job(
                self._folder, program, plan, model, optimizer, batch,
                threads=torch.get_num_threads(),
            )  # fmt: skip
            self._start(cap_bytes, counted, arena, needs_arena=resident_bytes is not None)
            ready = self._ask(
                {
                    "do": "begin",
                    "paging_directory": str(place),
                    "flash_write_bytes": flash_write_bytes,
                    "resident_bytes": resident_bytes,
                    "hard": hard,
                    "tags": tags,
                }
            )
        except BaseException:
            self._exits.close()
            raise
        self._planned_bytes: int = ready["planned_bytes"]
        self._closed = self._trained = False
        self._cap_bytes = cap_bytes if resident_bytes is None else None
        self._share_cap(_FIRST_STEP_ROOM)
        self._count_from_here()
        self.newest_step_seconds = 0.0

    def __call__(self, *arguments: Any) -> torch.Tensor:
        """One step in the worker on a batch, or on the mapping that is one; returns the loss. Raises UsageError (`batch_mismatch`) before
        anything has changed, and what the worker's TrainStep raises."""
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
        message: dict[str, Any] = {"do": "step"}
        groups = self._hyperparameters()
        if groups != self._groups:
            message["groups"] = self._groups = groups
        tensors = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
        first, self._trained = not self._trained, True
        reply = self._ask(message, tensors)
        if first:
            self._share_cap(_ROOM)
        self.newest_step_seconds = reply["seconds"]
        return torch.tensor(float.fromhex(reply["loss"]))

    def memory(self) -> IsolatedMemory:
        """What the worker has taken since it was ready."""
        self._check_open()
        found = self._ask({"do": "report"})
        statistics: Mapping[str, int] | None = found["arena"]
        other: int = found["other_bytes"]
        return IsolatedMemory(
            planned_bytes=self._planned_bytes,
            arena_bytes=statistics["peak_in_use_bytes"] - other if statistics else None,
            first_step_bytes=found["first_step_bytes"] if statistics else None,
            library_bytes=other if statistics else None,
            resident_bytes=statistics["peak_resident_bytes"] if statistics else None,
            group_bytes=self._group.peak_bytes() if self._group else None,
            peak_at=found["peak_at"],
            excess_at=found["excess_at"],
            statistics=statistics,
        )

    def collect(self) -> None:
        """Copies the worker's values into model, optimizer and generator of this process."""
        self._check_open()
        reply = self._ask({"do": "state"})
        give_back(self._model, self._optimizer, reply, read_tensors(self._folder / RESULT).tensors)

    def close(self) -> None:
        """Collects what was trained, ends the worker and removes its files. May be repeated."""
        if self._closed:
            return
        try:
            if self._trained:
                self.collect()
        finally:
            self._closed = True
            self._exits.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        if error is not None:
            self._trained = False  # the error says what happened; there may be nothing to collect
        self.close()

    def _start(
        self, cap_bytes: int | None, counted: bool, arena: Path | bool, *, needs_arena: bool
    ) -> None:
        environment = dict(os.environ)
        # The worker finds this package where this process did, however that was installed.
        environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        library = arena if isinstance(arena, Path) else None
        reason = why_no_arena(library) if arena else "The arena was not asked for."
        if reason and not needs_arena:
            self.missing += (reason,)
        else:
            environment = arena_environment(environment, library=library)
        command = [sys.executable, "-m", _WORKER, str(self._folder)]
        if cap_bytes is not None or counted:
            self._group = self._exits.enter_context(memory_cgroup(cap_bytes))
            command = self._group.inside(command)
        else:
            self.missing += ("No limit of the kernel's was asked for: give cap_bytes.",)
        errors = self._exits.enter_context(self._folder.joinpath("stderr.txt").open("wb"))
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        self._exits.callback(self._end)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._channel = Channel(self._process.stdout, self._process.stdin)

    def _share_cap(self, room_bytes: int) -> None:
        """Gives the arena what the cap leaves: pages that are kept need no fault."""
        if self._group is None or self._cap_bytes is None:
            return
        found = self._ask({"do": "report"})
        if found["arena"] is None:
            return
        # Blocks may have pages that nobody has touched: what is held counts, not what may be.
        others = self._group.anonymous_bytes() - found["held_bytes"]
        # Less than the blocks themselves take would only be faulted in again and again.
        least = max(self._planned_bytes, found["span_bytes"])
        limit = max(least, self._cap_bytes - others - room_bytes)
        self._ask({"do": "limit", "resident_bytes": limit})

    def _count_from_here(self) -> None:
        """What reading the job took is not training's."""
        if self._group is not None:
            self._group.reset_peak()

    def _ask(self, message: Mapping[str, Any], tensors: list[torch.Tensor] | None = None) -> Any:
        try:
            self._channel.send(message, tensors or ())
            reply = self._channel.receive()
        except OSError:
            reply = None
        if reply is None:
            raise self._dead()
        if "error" in reply:
            raise _raised(reply["error"])
        return reply

    def _dead(self) -> ReplayError:
        status = self._process.wait()
        tail = self._folder.joinpath("stderr.txt").read_text(errors="replace")[-500:]
        killed = self._group is not None and self._group.oom_kills() > 0
        return ReplayError(
            _killed_message(self._group) if killed else f"The worker ended with {status}: {tail}",
            code="worker_killed" if killed else "worker_failed",
            hint="Give a larger cap, or plan for a smaller budget: what the interpreter and torch "
            "take comes on top of the plan."
            if killed
            else "",
        )

    def _end(self) -> None:
        process = self._process
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was not sent to a dead worker
                    continue
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _hyperparameters(self) -> list[dict[str, Any]]:
        return [group_values(group) for group in self._optimizer.param_groups]

    def _check_open(self) -> None:
        if self._closed:
            raise ReplayError("This IsolatedStep is closed.", code="step_closed")


def _killed_message(group: MemoryCgroup | None) -> str:
    peak = group.peak_bytes() if group else None
    reached = f" at {format_bytes(peak)}" if peak else ""
    return f"The kernel killed the worker{reached}: it needs more than its cap."


def _raised(document: Mapping[str, Any]) -> PoetError:
    """The worker's error, as an error of this process."""
    details = {k: v for k, v in document.items() if k not in ("code", "detail", "hint")}
    kind = UsageError if document["code"].startswith("paging_") else ReplayError
    return kind(document["detail"], code=document["code"], hint=document["hint"], details=details)
