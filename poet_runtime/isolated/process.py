"""The process of a worker: started with an arena, inside a memory group, and spoken to.

Invariant: however it ends, its process is dead, its group gone and its pipes closed after the exit
stack that it was given; an answer is never taken for that of another question.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from poet_core import errors
from poet_core.errors import PoetError, ReplayError
from poet_core.units import format_bytes
from poet_runtime.isolated.channel import Channel
from poet_runtime.memory.arena import arena_environment, why_no_arena
from poet_runtime.memory.cgroup import MemoryCgroup, memory_cgroup

WORKER = "poet_runtime.isolated.worker"
_END_SECONDS = 10


class WorkerProcess:
    """A worker for the job in `folder`.

    `cap_bytes`: the limit of its group; `counted`: make a group without one. `arena`: True, another
    build of its library, or False for libc's allocator. `missing`: what is not bound here, and why.
    Raises ReplayError (`no_cgroup`, and `no_arena` where the arena is needed and cannot be).
    """

    def __init__(
        self,
        folder: Path,
        exits: ExitStack,
        *,
        cap_bytes: int | None,
        counted: bool,
        arena: Path | bool,
        needs_arena: bool,
    ) -> None:
        self.missing: tuple[str, ...] = ()
        self.group: MemoryCgroup | None = None
        self.void = False
        self.steps = 0
        self._asking = False
        self._errors = folder / "stderr.txt"
        environment = self._environment(arena, needs_arena=needs_arena)
        command = [sys.executable, "-m", WORKER, str(folder)]
        if cap_bytes is not None or counted:
            self.group = exits.enter_context(memory_cgroup(cap_bytes))
            command = self.group.inside(command)
        else:
            self.missing += ("No limit of the kernel's was asked for: give cap_bytes.",)
        with self._errors.open("wb") as file:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=file, start_new_session=True,  # Ctrl-C is for who waits, not for the worker
            )  # fmt: skip
        exits.callback(self._end)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._channel = Channel(self._process.stdout, self._process.stdin)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def ask(self, message: Mapping[str, Any], tensors: Sequence[torch.Tensor] = ()) -> Any:
        """The answer to a message. Raises the worker's error, or ReplayError (`worker_killed`,
        `worker_failed`) where it is dead."""
        if self._asking:
            raise ReplayError(
                "The worker was interrupted amid an answer: its state is lost.", code="step_void"
            )
        self._asking = True
        try:
            self._channel.send(message, tensors)
            reply = self._channel.receive()
        except OSError:
            reply = None
        if reply is None:
            self.void = True
            raise self._dead()
        self._asking = False
        self.steps = reply.get("completed", self.steps)
        if "error" in reply:
            self.void = reply["void"]
            raise _raised(reply["kind"], reply["error"])
        return reply

    def _environment(self, arena: Path | bool, *, needs_arena: bool) -> dict[str, str]:
        environment = dict(os.environ)
        # The worker finds this package where this process did, however that was installed.
        environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
        environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
        library = arena if isinstance(arena, Path) else None
        reason = why_no_arena(library) if arena else "The arena was not asked for."
        if reason and not needs_arena:
            self.missing += (reason,)
            return environment
        return arena_environment(environment, library=library)

    def _dead(self) -> ReplayError:
        status = self._process.wait()
        self._asking = False
        group = self.group
        if group is not None and group.oom_kills() > 0:
            peak = group.peak_bytes()
            reached = f" at {format_bytes(peak)}" if peak else ""
            return ReplayError(
                f"The kernel killed the worker{reached}: it needs more than its cap.",
                code="worker_killed",
                hint="Give a larger cap, or plan for a smaller budget: what the interpreter and "
                "torch take comes on top of the plan.",
                details={"peak_bytes": peak},
            )
        tail = ""
        with suppress(OSError):
            tail = self._errors.read_text(errors="replace")[-500:]
        return ReplayError(f"The worker ended with {status}: {tail}", code="worker_failed")

    def _end(self) -> None:
        process = self._process
        if self._asking:
            process.kill()  # nobody waits for the answer any more
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what was not sent to a dead worker
                    pipe.close()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _raised(kind: str, document: Mapping[str, Any]) -> PoetError:
    """The worker's error, as an error of this process."""
    details = {k: v for k, v in document.items() if k not in ("code", "detail", "hint")}
    found = getattr(errors, kind, None)
    if not (isinstance(found, type) and issubclass(found, PoetError)):
        found = ReplayError
    return found(document["detail"], code=document["code"], hint=document["hint"], details=details)
