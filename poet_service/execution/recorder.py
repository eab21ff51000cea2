"""What a solve writes into the Store: at bounded rates, and through a database that comes and goes.

Invariant: an event of one kind comes `write_seconds` after the last at the earliest, and the newest
is never lost to that; a solve that another worker has taken (`fenced`) is written to no more. A
database that is away stops nobody: news waits, and the end of the solve is tried again and again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.execution.judging import JudgedPlan, gap_of
from poet_service.execution.limits import ExecutionLimits
from poet_service.jobs.states import SolveState

_LOG = logging.getLogger("poet.service.execution")
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 0.1, 2.0
_Answer = TypeVar("_Answer")


class Recorder:
    """The pen of one attempt at one solve. One thread uses it."""

    def __init__(self, store: Store, solve_id: str, attempt: int, limits: ExecutionLimits) -> None:
        self._store, self._id, self._attempt, self._limits = store, solve_id, attempt, limits
        self._began = time.monotonic()
        # The claim was a look and a heartbeat.
        self._written = dict.fromkeys(("look", "heartbeat"), self._began)
        # What is to be written, and what the Store has.
        self._plan: JudgedPlan | None = None
        self.saved: JudgedPlan | None = None
        self._cost: float | None = None
        self._bound: float | None = None
        self._message: str | None = None
        self._log = ""
        self._log_left = limits.log_bytes
        self.fenced = self.stop_requested = False

    @property
    def elapsed_seconds(self) -> float:
        """Since the attempt began."""
        return time.monotonic() - self._began

    def incumbent(self, plan: JudgedPlan) -> None:
        """The best plan so far."""
        self._plan, self._cost = plan, plan.cost

    def superseded(self) -> None:
        """What is not written yet of plans and bounds need not be: the end has better ones."""
        self._plan = self._bound = None

    def bound(self, value: float) -> None:
        """What no plan can cost less than."""
        if self._cost is not None:
            self._bound = min(value, self._cost)

    def progress(self, message: str) -> None:
        """A sentence."""
        self._message = message

    def log(self, text: str) -> None:
        """Lines for the log, while there is room."""
        if self._log_left > 0:
            kept = text[: self._log_left]
            self._log_left -= len(kept)
            self._log += kept

    def tick(self) -> None:
        """Write what is due."""
        if self._due("look", self._limits.look_seconds):
            self._try(self._look)
        if self._due("heartbeat", self._limits.heartbeat_seconds):
            self._try(lambda: self._store.heartbeat(self._id, self._attempt))
        if self._plan is not None and self._due("incumbent", self._limits.write_seconds):
            self._write_plan(self._plan)
        if self._bound is not None and self._due("bound", self._limits.write_seconds):
            self._write_bound(self._bound)
        if self._message is not None and self._due("progress", self._limits.write_seconds):
            self._write_message(self._message)
        if self._log and self._due("log", self._limits.write_seconds):
            self._write_log(self._log)

    def flush(self) -> None:
        """Write everything, for the end comes next."""
        self._written = dict.fromkeys(("look", "heartbeat"), time.monotonic())
        self.tick()

    def end(self, write: Callable[[], _Answer], leaving: threading.Event) -> _Answer | None:
        """Carry out what must be, the last write above all, again and again while the database is away. None where it stayed
        away: whoever looks for solves that nobody works on will find this one."""
        deadline = time.monotonic() + self._limits.database_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return write()
            except ServiceError as error:
                _LOG.warning("solve %s: its end cannot be written: %s", self._id, error.code)
                if time.monotonic() > deadline or leaving.wait(pause):
                    return None
                pause = min(2 * pause, _LAST_PAUSE_SECONDS)

    def save(self, plan: JudgedPlan) -> bool:
        """Store the best plan so far, once. Raises ServiceError."""
        if plan is self.saved:
            return True
        figures = (plan.cost, plan.bound, plan.gap, self.elapsed_seconds)
        written = self._store.incumbent(
            self._id, self._attempt, plan.document(), *figures, by=plan.by
        )
        if written:
            self.saved = plan
        return written

    def _due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if self.fenced or now - self._written.get(what, -seconds) < seconds:
            return False
        self._written[what] = now
        return True

    def _look(self) -> bool:
        """Whether the solve is ours still; and whether it is wanted."""
        record = self._store.solve(self._id)
        if record is None:
            return False
        self.stop_requested |= record.stop_requested
        return record.state is SolveState.RUNNING and record.attempt == self._attempt

    def _write_plan(self, plan: JudgedPlan) -> None:
        if self._try(lambda: self.save(plan)):
            self._plan = None

    def _write_bound(self, bound: float) -> None:
        assert self._cost is not None
        gap, seconds = gap_of(self._cost, bound), self.elapsed_seconds
        if self._try(lambda: self._store.bound(self._id, self._attempt, bound, gap, seconds)):
            self._bound = None

    def _write_message(self, message: str) -> None:
        seconds = self.elapsed_seconds
        if self._try(lambda: self._store.progress(self._id, self._attempt, message, seconds)):
            self._message = None

    def _write_log(self, text: str) -> None:
        if self._try(lambda: self._store.log(self._id, self._attempt, text)):
            self._log = ""

    def _try(self, write: Callable[[], bool]) -> bool:
        """Whether it is written; `fenced` where the solve is another's now."""
        try:
            self.fenced |= not write()
        except ServiceError as error:
            _LOG.warning("solve %s: the database cannot be written: %s", self._id, error.code)
            return False
        return not self.fenced
