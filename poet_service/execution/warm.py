"""The warm process: it has the planner imported and forks a child for each solve.

    python -m poet_service.execution.warm CONTROL CHILD
    owner ── control (a stream socket): one JSON line a child, with the child's four descriptors ──> here
          <── leash (a socket, the fourth of them): "pid 71", later "end STATUS PEAK_BYTES" ────────

A Python that imports the planner takes 0.3 s; forked from one that has, it takes 5 ms. CHILD is the
module that says what a child is: `warm_up()` imports, `converse()` is its life (child.py).

Invariant: a child lives no longer than its leash: where the owner writes to its end, closes it or
dies, the child's whole process group is killed. Where this process dies, the kernel kills the
children. It has one thread and never reads a request; what becomes an orphan below it is reaped here.
STATUS is an exit status, or minus the signal.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, cast

READY = b"ready\n"
# stdin, stdout, stderr, leash
DESCRIPTORS = 4
LINE_BYTES = 8192

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # of getrusage(2)'s ru_maxrss, in bytes
_BROKEN_EXIT = 5
# Far more than this process ever opens: a few a child.
_MOST_DESCRIPTORS = 65_536


class _Life(Protocol):
    """What the module CHILD has."""

    def warm_up(self) -> None: ...

    def converse(self) -> int: ...


def main(control: int, child: str) -> None:
    """Imports, says that it is ready, and forks until the owner goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    life = cast(_Life, importlib.import_module(child))
    life.warm_up()
    _adopt_orphans()
    gc.collect()
    gc.freeze()  # what is never collected is never copied for it
    with socket.socket(fileno=control) as owner, contextlib.suppress(ConnectionError):
        owner.sendall(READY)  # nobody is there where the owner died meanwhile
        _Warm(owner, life).serve()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a child is to be: its folder, its limits, its descriptors."""

    folder: str
    memory_bytes: int
    file_bytes: int
    niceness: int
    descriptors: list[int]


class _Warm:
    """The loop, and the children by process id with their leashes."""

    def __init__(self, owner: socket.socket, life: _Life) -> None:
        self._owner, self._life = owner, life
        self._leashes: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(owner, selectors.EVENT_READ)
        self._wake, woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(woken, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the owner closes its end, or dies."""
        while True:
            for key, _events in self._selector.select():
                if key.fileobj is self._owner:
                    if not self._take_order():
                        self._kill_all()
                        return
                elif key.data is not None:
                    self._kill(key.data)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake, 4096)
            self._reap()

    def _take_order(self) -> bool:
        try:
            line, descriptors, _flags, _address = socket.recv_fds(
                self._owner, LINE_BYTES, DESCRIPTORS
            )
        except ConnectionError:
            return False
        if not line:
            return False
        if len(descriptors) != DESCRIPTORS:  # this process may open no more: the owner sees the end
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        order = _Order(descriptors=descriptors, **json.loads(line))
        leash = socket.socket(fileno=order.descriptors.pop())
        try:
            self._fork(order, leash)
        except OSError as error:  # no process or memory left: the owner sees the leash end
            leash.close()
            sys.stderr.write(f"The warm process cannot fork: {error}\n")
        for descriptor in order.descriptors:
            os.close(descriptor)
        return True

    def _fork(self, order: _Order, leash: socket.socket) -> None:
        warm = os.getpid()
        child = os.fork()
        if child == 0:
            _become_child(order, warm, self._life)
        leash.setblocking(False)
        self._leashes[child] = leash
        self._selector.register(leash, selectors.EVENT_READ, child)
        _say(leash, f"pid {child}")

    def _kill(self, child: int) -> None:
        """The child is not reaped yet, so the number is its own still."""
        self._selector.unregister(self._leashes[child])
        for kill in (os.killpg, os.kill):  # before its setsid it has no group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)

    def _kill_all(self) -> None:
        for child in self._leashes:
            with contextlib.suppress(KeyError):  # it had been killed before
                self._kill(child)

    def _reap(self) -> None:
        while True:
            with contextlib.suppress(ChildProcessError):
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended is None:
                    return
                self._bury(ended.si_pid)
                continue
            return

    def _bury(self, child: int) -> None:
        leash = self._leashes.get(child)
        if leash is not None:
            with contextlib.suppress(KeyError):
                self._kill(child)  # whoever it left behind in its group
        _, status, usage = os.wait4(child, 0)
        if leash is not None:
            del self._leashes[child]
            code = os.waitstatus_to_exitcode(status)
            _say(leash, f"end {code} {usage.ru_maxrss * _RSS_UNIT}")
            leash.close()


def _say(leash: socket.socket, word: str) -> None:
    with contextlib.suppress(OSError):  # the owner has let go
        leash.send(f"{word}\n".encode())


def _become_child(order: _Order, warm: int, life: _Life) -> NoReturn:
    """In the forked process: a session, limits and a folder of its own, then the conversation."""
    status = _BROKEN_EXIT
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _die_with(warm)
        for target, descriptor in enumerate(order.descriptors):
            os.dup2(descriptor, target)
        # Leashes of others above all: an end that a child held would never close.
        os.closerange(3, _MOST_DESCRIPTORS)
        for limit, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, order.file_bytes),
            (resource.RLIMIT_AS, order.memory_bytes),
        ):
            resource.setrlimit(limit, (most, most))
        os.nice(order.niceness)
        os.chdir(order.folder)
        os.environ["TMPDIR"] = order.folder
        tempfile.tempdir = None
        status = life.converse()
    finally:
        os._exit(status)


def _die_with(warm: int) -> None:
    """Linux only: elsewhere a child of a warm process that was killed ends with its standard input."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != warm:  # it died before prctl could take effect
        os._exit(_BROKEN_EXIT)


def _adopt_orphans() -> None:
    """Where a child is killed, its solvers come here to be reaped; in a container whose first process
    is the service nobody else would."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    import ctypes

    libc: Any = ctypes.CDLL(None)
    libc.prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
