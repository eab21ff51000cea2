"""The small process between us and a solver; run as a script, stdlib only.

    cd FOLDER
    python -I -S supervisor.py PARENT_PID WALL_SECONDS MEMORY_BYTES FOLDER -- SOLVER ARGUMENTS...

Invariant: however things end (the solver finishes, hangs or explodes; the parent kills us politely,
or is itself killed without a chance to clean up), the solver does not outlive this process by more
than a moment, and when the parent is gone FOLDER is removed here. MEMORY_BYTES 0 means no cap. The
most RAM that the solver held is left in PEAK_NAME: never less than the 10 MB of this small Python,
as whose copy it begins.
Exit status: the solver's own, 128 + the signal that killed it, or one of the two below.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time

WALL_LIMIT_EXIT = 200
STOPPED_EXIT = 201
PEAK_NAME = "peak_memory_bytes"

_PARENT_CHECK_SECONDS = 0.2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage(2)'s ru_maxrss, in bytes


def main(arguments: list[str]) -> int:
    """Starts the solver, watches over it and returns the exit status."""
    parent, wall, memory, folder = arguments[0], arguments[1], arguments[2], arguments[3]
    signal.signal(signal.SIGTERM, _stop)
    # The solver inherits the writing end and never writes: it reads as ended when the solver ends.
    ended, held_by_solver = os.pipe()
    supervisor = os.getpid()
    solver = os.fork()
    if solver == 0:
        os.set_inheritable(held_by_solver, True)
        _become_solver(arguments[5:], supervisor, int(memory))
    os.close(held_by_solver)
    try:
        return _watch(solver, ended, int(parent), time.monotonic() + float(wall))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _kill_and_reap(solver)
        if os.getppid() != int(parent):
            shutil.rmtree(folder, ignore_errors=True)


def _stop(_signal: int, _frame: object) -> None:
    sys.exit(STOPPED_EXIT)


def _watch(solver: int, ended: int, parent: int, deadline: float) -> int:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return WALL_LIMIT_EXIT
        if os.getppid() != parent:
            return STOPPED_EXIT
        if select.select([ended], [], [], min(left, _PARENT_CHECK_SECONDS))[0]:
            status = _reap(solver)
            return status if status >= 0 else 128 - status


def _kill_and_reap(solver: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(solver, signal.SIGKILL)
        _reap(solver)


def _reap(solver: int) -> int:
    """Waits for the solver, notes what it held; its exit status, or minus the signal."""
    _, status, usage = os.wait4(solver, 0)
    with contextlib.suppress(OSError):  # a full disk, or no folder any more
        note = os.open(PEAK_NAME, os.O_WRONLY | os.O_CREAT, 0o600)
        os.write(note, str(usage.ru_maxrss * _RSS_UNIT).encode())
        os.close(note)
    return os.waitstatus_to_exitcode(status)


def _become_solver(command: list[str], supervisor: int, memory_bytes: int) -> None:
    """In the forked child: caps, death with this supervisor, then exec. Never returns."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(supervisor)
        if memory_bytes:
            import resource

            resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.execv(command[0], command)  # noqa: S606 - becoming the solver is this process's purpose
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _die_with(supervisor: int) -> None:
    """Linux only: a SIGKILL of the supervisor takes the solver along; elsewhere the group does."""
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:  # it died before prctl could take effect
        os._exit(STOPPED_EXIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
