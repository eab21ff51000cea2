"""Nursery: the warm process (warm.py), as the process that owns it sees it.

One a process, shared by all its solves. A warm process that ended is started again with the next
child. Invariant: when the owner ends, however it ends, so do the warm process and every child.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from poet_core.errors import ServiceError
from poet_service.execution.folders import ProcessFolders
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.warm import LINE_BYTES, READY

# 0.4 s on an idle machine; a starved one was seen to take 20 s.
_START_SECONDS = 120.0
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnds:
    """The parent's ends of a child: three descriptors, a socket. Whoever has them closes them."""

    words_in: int
    words_out: int
    last_words: int
    leash: socket.socket


class Nursery:
    """Every method may be called from any thread. `folder`: the state folder, which processes may
    share; what is temporary is in `solves` below it. `child`: the module of a child's life."""

    def __init__(self, folder: Path, *, child: str = "poet_service.execution.child") -> None:
        self._life = child
        self.root = folder / "solves"
        self._folders = ProcessFolders(self.root)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Sweep the folders of dead processes and start the warm one. Raises ServiceError
        (`planner_unavailable`)."""
        self._folders.open()
        with self._lock:
            self._start()

    @property
    def process_id(self) -> int | None:
        """The warm process's, where one was started."""
        process = self._process
        return None if process is None else process.pid

    def ready(self) -> str | None:
        """None where children can be had, else why not."""
        process = self._process
        if process is None or process.poll() is not None:
            return "The warm process of the planner does not run."
        return None

    def ensure(self) -> None:
        """Start the warm process again where it has died. Raises ServiceError."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    @contextmanager
    def new_child(self, limits: ExecutionLimits) -> Iterator[ChildEnds]:
        """A child with a folder of its own, both gone afterwards. Raises ServiceError
        (`planner_unavailable`)."""
        with contextlib.ExitStack() as held:
            try:
                folder = held.enter_context(self._folders.solve())
                ends = self._child(folder, limits)
            except OSError as error:  # a full disk, no descriptors left
                raise _unavailable(f"no process can be made ({error.strerror})") from error
            held.callback(close_ends, ends)
            yield ends

    def _child(self, folder: Path, limits: ExecutionLimits) -> ChildEnds:
        """A new child. Raises ServiceError (`planner_unavailable`) and OSError."""
        order = {
            "folder": str(folder),
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "niceness": limits.niceness,
        }
        line = json.dumps(order).encode() + b"\n"
        assert len(line) <= LINE_BYTES
        stdin, words_in = os.pipe()
        words_out, stdout = os.pipe()
        last_words, stderr = os.pipe()
        leash, held = socket.socketpair()
        theirs = (stdin, stdout, stderr, held.fileno())
        ours = ChildEnds(words_in=words_in, words_out=words_out, last_words=last_words, leash=leash)
        try:
            self._send(line, theirs)
        except BaseException:
            close_ends(ours)
            raise
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
            held.close()
        return ours

    def kill(self) -> None:
        """End the warm process and all its children at once; the next child starts another."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        """End the warm process and every child, and remove this process's folder."""
        with self._lock:
            self._end()
        self._folders.close()

    def _send(self, line: bytes, descriptors: tuple[int, ...]) -> None:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()
            assert self._control is not None
            try:
                socket.send_fds(self._control, [line], descriptors)
            except OSError:  # it died just now
                self._start()
                socket.send_fds(self._control, [line], descriptors)

    def _start(self) -> None:
        """Once more where somebody killed it at its start (memory that ran short for a moment)."""
        if not (self._started() or (self._was_killed() and self._started())):
            self._end()
            raise _unavailable("it does not start (is the package whole?)")

    def _started(self) -> bool:
        self._end()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "poet_service.execution.warm"),
                    *(str(theirs.fileno()), self._life),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                cwd="/",
                start_new_session=True,
            )
        self._control = ours
        return bool(select.select([ours], [], [], _START_SECONDS)[0]) and _said(ours) == READY

    def _was_killed(self) -> bool:
        """Whether it ended by a signal; waits for an end that has closed its socket already."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_END_SECONDS) < 0
        return False

    def _end(self) -> None:
        """Politely: the warm process kills and reaps its children; then without asking."""
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
            self._process.kill()
            self._process.wait()
            self._process = None


def _said(control: socket.socket) -> bytes:
    try:
        return control.recv(64)
    except ConnectionError:  # it died with something of ours unread
        return b""


def _unavailable(why: str) -> ServiceError:
    return ServiceError(
        f"The planner cannot be used: {why}.",
        code="planner_unavailable",
        hint="The operator finds the reason in the log of the service; solves wait until then.",
    )


def close_ends(ends: ChildEnds) -> None:
    """Let go of a child; if it lives it is killed."""
    ends.leash.close()
    for descriptor in (ends.words_in, ends.words_out, ends.last_words):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _environment() -> dict[str, str]:
    """Enough to find Python's and the solvers' libraries; none of the service's secrets."""
    wanted = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **{name: os.environ[name] for name in wanted if name in os.environ},
        # numpy, which highspy loads and nobody uses, would start a thread a core.
        **dict.fromkeys(threads, "1"),
        # A thread's own arena reserves 64 MB of address space, which is what is limited.
        "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
