"""What a child writes while it plans: JSON lines, each whole, at a rate that a reader can follow.

Incumbents come slowly already (poet_solvers.incumbents). Sentences and bounds come as fast as a
search finds them: a thread writes what is news, four times a second. Every sentence is in the log.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import Any

from poet_core.plan import Plan
from poet_core.plan_document import plan_to_document
from poet_solvers.desk import Progress

_PAUSE_SECONDS = 0.25
# A listener's time is the solve's pace (incumbents.py): large plans are told more seldom.
_PLAN_BYTES_PER_SECOND = 2e6
# A search says a sentence with each better plan, ten times a second; the rest is not worth keeping.
_MOST_LOG_LINES = 5_000


class Reporter:
    """Writes to a descriptor; every method may be called from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writing, self._lock = threading.Lock(), threading.Lock()
        self._log: list[str] = []
        self._logged = 0
        self._message: str | None = None
        self._bound: float | None = None
        self._bound_told: float | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poet-reporter", daemon=True)
        self._thread.start()

    def progress(self, now: Progress) -> None:
        """A sentence of the planner's, and its bound."""
        with self._lock:
            self._message = now.message
            if now.incumbent is not None:  # a bound means nothing to anybody without a plan
                self._bound = now.bound
            if self._logged < _MOST_LOG_LINES:
                self._logged += 1
                self._log.append(_log_line(now))

    def incumbent(self, plan: Plan) -> None:
        """A better plan."""
        written = self._write("incumbent", {"plan": plan_to_document(plan)})
        time.sleep(written / _PLAN_BYTES_PER_SECOND)

    def done(self, plan: Plan) -> None:
        """The answer; the last line."""
        self._close()
        self._write("done", {"plan": plan_to_document(plan)})

    def error(self, document: dict[str, Any]) -> None:
        """Why there is no answer; the last line."""
        self._close()
        self._write("error", {"error": document})

    def _close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.wait(_PAUSE_SECONDS):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        with self._lock:
            log, message, bound = self._log, self._message, self._bound
            self._log, self._message = [], None
        if log:
            self._write("log", {"text": "".join(log)})
        if message is not None:
            self._write("progress", {"message": message})
        if bound is not None and bound != self._bound_told:
            self._bound_told = bound
            self._write("bound", {"value": bound})

    def _write(self, kind: str, fields: dict[str, Any]) -> int:
        line = json.dumps({"t": kind, **fields}, separators=(",", ":"), allow_nan=False) + "\n"
        left = memoryview(line.encode("ascii"))
        with self._writing:
            while left:
                left = left[os.write(self._descriptor, left) :]
        return len(line)


def _log_line(now: Progress) -> str:
    figures = "" if now.incumbent is None else f"  plan {now.incumbent:.9g}"
    if now.bound is not None:
        figures += f"  bound {now.bound:.9g}"
    return f"{now.seconds:8.2f} s  {now.message}{figures}\n"
