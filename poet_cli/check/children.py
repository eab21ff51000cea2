"""Child processes that do the work of a check, each in a session of its own.

    parent ── leash (a pipe that only the parent holds) ──> child
           <── what it prints (the last of it is kept) ────

Invariant: a child, and what it started in its session, ends with its time, with a cancellation and
with its parent: whoever lets go of the leash ends it, a parent that is killed included.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO

# What is kept of what a child prints.
_SAID_BYTES = 64 * 1024
_POLL_SECONDS = 0.05
# A child that is let go may end by itself, so that its solvers do.
_LAST_SECONDS = 4.0


class ChildEnd(Enum):
    """How a child ended. Each member's value is its sentence."""

    EXITED = "The child ended by itself, or was killed by somebody else."
    TIMED_OUT = "The child was killed when its time was up."
    CANCELLED = "The caller wanted no more of it."


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A child that is gone. `exit_status`: its own, or minus the signal; `said`: what it printed
    last."""

    end: ChildEnd
    exit_status: int
    said: str
    took_seconds: float


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder that only we can read, removed on the way out."""
    with tempfile.TemporaryDirectory(prefix="poet-check-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def run_child(
    module: str,
    request: Path,
    *,
    folder: Path,
    wall_seconds: float,
    cancel: threading.Event,
) -> Ended:
    """Runs `python -m module request LEASH` in `folder` and waits for its end, whatever it is."""
    began = time.monotonic()
    held_by_child, leash = os.pipe()
    environment = dict(os.environ)
    # The child finds our packages where this process did, however they were installed.
    environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
    try:
        process = subprocess.Popen(
            # -P: the folder is the user's; its modules hide none of ours or of Python's.
            [sys.executable, "-P", "-m", module, str(request), str(held_by_child)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            pass_fds=(held_by_child,),
            start_new_session=True,  # Ctrl-C is for who waits; and the whole group can be ended
        )
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(held_by_child)
    assert process.stdout is not None
    said = _Tail(process.stdout)
    try:
        end = _wait(process, began + wall_seconds, cancel)
    finally:
        os.close(leash)
        _end(process)
        said.close()
    return Ended(
        end=end,
        exit_status=process.returncode,
        said=said.text(),
        took_seconds=time.monotonic() - began,
    )


def on_release(leash: int, act: Callable[[], None]) -> None:
    """In the child: calls `act`, in a thread of its own, once the parent has let go."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(leash, 1)  # nobody writes: it ends where the other end is closed
        act()

    threading.Thread(target=wait, name="poet-leash", daemon=True).start()


def end_session() -> None:
    """In the child: kills it and everything in its session's group."""
    os.killpg(0, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], deadline: float, cancel: threading.Event) -> ChildEnd:
    while process.poll() is None:
        if cancel.wait(_POLL_SECONDS):
            return ChildEnd.CANCELLED
        if time.monotonic() > deadline:
            return ChildEnd.TIMED_OUT
    return ChildEnd.EXITED


def _end(process: subprocess.Popen[bytes]) -> None:
    """The child may end by itself now that the leash is loose; then everything in its group."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_LAST_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class _Tail:
    """Reads what a child prints as fast as it comes, and keeps the last of it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._kept = pipe, b""
        self._thread = threading.Thread(target=self._read, name="poet-child-output", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while part := os.read(self._pipe.fileno(), 65536):
                self._kept = (self._kept + part)[-_SAID_BYTES:]

    def close(self) -> None:
        """A process that left the session may hold the pipe still: nobody waits for it."""
        self._thread.join(timeout=1.0)
        if not self._thread.is_alive():
            self._pipe.close()

    def text(self) -> str:
        return self._kept.decode("utf-8", errors="replace")
