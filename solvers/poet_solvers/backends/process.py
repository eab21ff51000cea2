"""Runs one solver process so that it cannot outlive, outgrow or litter.

    caller's thread ── Popen, new session ──> supervisor ── fork, exec ──> solver
                                              (wall limit, parent watch)   (memory cap, stdin empty)

Invariant: when `run_solver` returns or raises, no process of the session lives. The private folder
belongs to `private_folder`, which removes it whatever happened; if this process is killed outright,
the supervisor removes it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from poet_solvers.backends import supervisor

# A solver that was told to stop at the limit gets this long to write its answer.
GRACE_SECONDS = 2.0
# Waiting for a cancel event is polling; short solves are asked about more often.
_FIRST_POLL_SECONDS = 0.002
_LAST_POLL_SECONDS = 0.1
_LOG_TAIL_BYTES = 8192
_LOG_NAME = "solver.log"


class ProcessEnd(Enum):
    """How a solver process ended. Each member's value is its sentence."""

    EXITED = "The solver ended by itself."
    KILLED_AT_LIMIT = "The solver did not stop at its limit and was killed."
    CANCELLED = "The caller cancelled the solve."


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessResult:
    """`exit_status` is the solver's own, or 128 + the signal that ended it; `peak_memory_bytes` the
    most that it held in RAM, None where nobody was left to note it; `cap_bytes` its address space."""

    end: ProcessEnd
    exit_status: int
    log: str
    peak_memory_bytes: int | None = None
    cap_bytes: int | None = None

    @property
    def crashed_near_cap(self) -> bool:
        """Whether it failed as programs do that do not look whether an allocation succeeded: CBC
        by a signal, Python by anything, syntax errors in sound files included."""
        if self.cap_bytes is None or self.exit_status == 0:
            return False
        return self.peak_memory_bytes is None or 2 * self.peak_memory_bytes > self.cap_bytes


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only we can read, removed on the way out."""
    folder = Path(tempfile.mkdtemp(prefix="poet-solve-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_solver(
    command: Sequence[str],
    *,
    folder: Path,
    wall_seconds: float,
    memory_bytes: int | None,
    cancel: threading.Event | None,
) -> ProcessResult:
    """Runs `command` (absolute path first) in `folder` and waits for its end, whatever it is."""
    log_path = folder / _LOG_NAME
    guarded = [
        *(sys.executable, "-I", "-S", str(Path(supervisor.__file__).resolve())),
        *(str(os.getpid()), repr(wall_seconds + GRACE_SECONDS), str(memory_bytes or 0)),
        *(str(folder), "--", *command),
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            guarded,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
            env=_environment(),
        )
    try:
        cancelled = _wait(process, cancel)
    finally:
        _end_session(process)
    return ProcessResult(
        end=_how(process.returncode, cancelled),
        exit_status=process.returncode,
        log=log_path.read_text(encoding="utf-8", errors="replace").replace(str(folder), "."),
        peak_memory_bytes=_peak_in(folder),
        cap_bytes=memory_bytes,
    )


def log_tail(log: str) -> str:
    """The end of a log: enough to see what a solver was doing, small enough to keep."""
    return log[-_LOG_TAIL_BYTES:]


def _wait(process: subprocess.Popen[bytes], cancel: threading.Event | None) -> bool:
    """Waits for the end; True when the caller cancelled first."""
    if cancel is None:
        process.wait()
        return False
    pause = _FIRST_POLL_SECONDS
    while process.poll() is None:
        if cancel.wait(pause):
            return True
        pause = min(2 * pause, _LAST_POLL_SECONDS)
    return False


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Politely first, so that the supervisor reaps its solver; then everything in the session."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _how(exit_status: int, cancelled: bool) -> ProcessEnd:
    if cancelled:
        return ProcessEnd.CANCELLED
    if exit_status == supervisor.WALL_LIMIT_EXIT:
        return ProcessEnd.KILLED_AT_LIMIT
    return ProcessEnd.EXITED


def _peak_in(folder: Path) -> int | None:
    try:
        return int((folder / supervisor.PEAK_NAME).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _environment() -> dict[str, str]:
    """What a solver may see: enough to find libraries and a licence, none of the caller's secrets.

    OMP_NUM_THREADS is left out on purpose: each solver is told its thread count itself. numpy, which
    highspy loads and nobody uses, would reserve memory for OpenBLAS threads.
    """
    wanted = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "GRB_LICENSE_FILE", "GUROBI_HOME")
    kept = {name: os.environ[name] for name in wanted if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
