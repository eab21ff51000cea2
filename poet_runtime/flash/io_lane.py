"""One thread that carries out I/O in the order given, and those who wait for it.

Invariants: the thread holds nothing of a job that it has reported done; after a fault every later
wait raises that fault; a disk that stops answering is a fault as well, raised by whoever waits,
so nothing hangs.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from poet_core.errors import ReplayError

_CHECK_SECONDS = 1.0
_IDLE = float("inf")


@dataclass(slots=True)
class _State:
    """What the thread knows; it holds no IoLane, so that a forgotten one can be collected."""

    stall_seconds: float
    at_end: list[Callable[[], None]] = field(default_factory=list)
    jobs: queue.SimpleQueue[tuple[Callable[[], None], str] | None] = field(
        default_factory=queue.SimpleQueue
    )
    finished: threading.Condition = field(default_factory=threading.Condition)
    done: int = 0
    fault: ReplayError | None = None
    progress_at: float = _IDLE
    busy_seconds: float = 0.0
    stalled: bool = False


class IoLane:
    """Tickets count jobs from 1, in the order in which they are done.

    `stall_seconds`: without progress for so long a job, and with it the lane, is given up
    (`flash_stalled`). `waited_seconds` is what callers have waited, `busy_seconds` what jobs took.
    """

    def __init__(self, stall_seconds: float) -> None:
        self.stall_seconds = stall_seconds
        self.submitted = 0
        self.waited_seconds = 0.0
        self._state = _State(stall_seconds)
        self._thread = threading.Thread(
            target=_serve, args=(self._state,), name="poet-pager", daemon=True
        )
        self._thread.start()
        self._close = weakref.finalize(self, _shut_down, self._state, self._thread)

    @property
    def open(self) -> bool:
        """Whether jobs are still taken."""
        return self._close.alive

    @property
    def fault(self) -> ReplayError | None:
        """The first fault, if any."""
        return self._state.fault

    @property
    def busy_seconds(self) -> float:
        """Seconds that finished jobs took."""
        return self._state.busy_seconds

    def progress(self) -> Callable[[], None]:
        """What a job calls each time that it has got on; it holds no IoLane."""
        state = self._state

        def note() -> None:
            state.progress_at = time.monotonic()

        return note

    def at_end(self, action: Callable[[], None]) -> None:
        """`action` runs on the thread, as its last act: also when the disk answers late."""
        self._state.at_end.append(action)

    def submit(self, work: Callable[[], None], what: str) -> int:
        """Queues a job; returns its ticket. `what` it does is for the message of its fault."""
        if not self.open:
            raise ReplayError("The pager is closed.", code="flash_io")
        self.submitted += 1
        self._state.jobs.put((work, what))
        return self.submitted

    def wait(self, ticket: int) -> None:
        """Returns when the job and all before it are done, or raises the first fault."""
        state = self._state
        if state.done < ticket:
            started = time.monotonic()
            self._wait(ticket)
            self.waited_seconds += time.monotonic() - started
        fault = state.fault
        if fault is not None:
            # A new one each time: a kept traceback would keep the memory of the frames in it.
            raise ReplayError(
                fault.message, code=fault.code, hint=fault.hint, details=fault.details
            )

    def call(self, work: Callable[[], None], what: str) -> None:
        """Runs `work` on the thread after everything submitted. What it raises is raised here and
        is no fault of the lane; its time counts neither as busy nor as waited."""
        raised: list[Exception] = []
        state = self._state

        def guarded() -> None:
            started = time.monotonic()
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised again by the caller, below
                raised.append(error)
            state.busy_seconds -= time.monotonic() - started

        waited = self.waited_seconds
        self.wait(self.submit(guarded, what))
        self.waited_seconds = waited
        if raised:
            raise raised.pop()

    def fail(self, fault: ReplayError) -> None:
        """Makes an error that a `call` found the lane's fault."""
        self._state.fault = self._state.fault or fault.with_traceback(None)

    def close(self) -> None:
        """Ends the thread after the jobs at hand. May be repeated; never waits for a dead disk."""
        self._close()

    def _wait(self, ticket: int) -> None:
        state = self._state
        pause = min(_CHECK_SECONDS, self.stall_seconds / 4)
        with state.finished:
            while not state.finished.wait_for(lambda: state.done >= ticket, pause):
                if state.fault is not None and state.stalled:
                    return
                if not self._thread.is_alive():
                    raise ReplayError("The I/O thread of the pager is gone.", code="flash_io")
                silent = time.monotonic() - state.progress_at
                if silent > self.stall_seconds:
                    state.stalled = True
                    state.fault = state.fault or _stalled(silent, self.stall_seconds)
                    return


def _serve(state: _State) -> None:
    """The thread: one job after the other; after a fault it only counts them."""
    while True:
        item = state.jobs.get()
        if item is None:
            break
        if state.fault is None:
            started = state.progress_at = time.monotonic()
            _carry_out(state, *item)
            state.busy_seconds += time.monotonic() - started
        del item  # the last reference of this thread goes before anyone is told
        state.progress_at = _IDLE
        with state.finished:
            state.done += 1
            state.finished.notify_all()
    for action in state.at_end:
        action()


def _carry_out(state: _State, work: Callable[[], None], what: str) -> None:
    """Does a job. Its fault is kept without a traceback, whose frames hold memory."""
    try:
        work()
    except ReplayError as error:
        fault = error.with_traceback(None)
    except OSError as error:
        fault = disk_fault(error, what)
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
        fault = ReplayError(f"The pager failed while {what}: {error!r}.", code="flash_io")
    else:
        return
    if state.fault is None:  # unless a waiter has given the disk up meanwhile
        state.fault = fault


def disk_fault(error: OSError, what: str) -> ReplayError:
    """An OSError by its name: `flash_full` or `flash_io`."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ReplayError(
        f"The disk failed while {what}: {error.strerror or error}.",
        code="flash_full" if full else "flash_io",
        hint="Give paging_directory a directory with more free space."
        if full
        else "Give paging_directory a directory on another disk.",
        details={"errno": error.errno},
    )


def _stalled(silent_seconds: float, stall_seconds: float) -> ReplayError:
    return ReplayError(
        f"The disk has not answered for {silent_seconds:.1f} s; expected progress every "
        f"{stall_seconds:g} s.",
        code="flash_stalled",
        hint="Look for a failing or overloaded disk; FlashOptions.stall_seconds sets the limit.",
        details={"stall_seconds": stall_seconds},
    )


def _shut_down(state: _State, thread: threading.Thread) -> None:
    state.jobs.put(None)
    if thread is threading.current_thread():
        return
    # A thread that hangs in the disk is left to it: it ends itself should the disk ever answer.
    while thread.is_alive() and time.monotonic() - state.progress_at <= state.stall_seconds:
        thread.join(min(_CHECK_SECONDS, state.stall_seconds))
