"""EmbeddedExecutor: solves in threads of the API process, a supervised child each.

    start      lock the state folder; sweep what the dead have left; start the warm process;
               solves that were RUNNING lost their process: queued once more, or failed
    threads    each takes the oldest queued solve that it can claim, carries it out, takes the next
    close      children are killed, their solves queued again, uncounted

Invariant: one process a state folder, so every RUNNING solve that no thread here works on has been
lost; the threads look for such ones too, because a database that was away may have missed an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.lock import StateLock
from poet_service.execution.nursery import Nursery
from poet_service.execution.run_solve import run_solve
from poet_service.execution.telling import telling

_LOG = logging.getLogger("poet.service.execution")
_TROUBLE_SECONDS = 1.0


class EmbeddedExecutor:
    """An Executor (executor.py). `folder`: the state folder; `notify`, where it is set, is called
    with each solve that has changed, from any thread."""

    def __init__(
        self,
        store: Store,
        *,
        folder: Path,
        solves_at_once: int = 2,
        limits: ExecutionLimits | None = None,
        reconcile_seconds: float = 5.0,
        nursery: Nursery | None = None,
    ) -> None:
        self._store = telling(store, self._tell)
        self._limits = limits or ExecutionLimits()
        self.notify: Callable[[str], None] | None = None
        self._reconcile_seconds = reconcile_seconds
        self._lock = StateLock(folder)
        self._nursery = nursery or Nursery(folder)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._leaving = threading.Event()
        # One thread at a time looks for work. What follows is guarded by `_work`, which the event
        # loop takes too: nobody asks the database while holding it.
        self._looking = threading.Lock()
        self._work = threading.Condition()
        self._news = False
        self._running: dict[str, threading.Event] = {}
        self._looked_at = 0.0
        self._trouble: str | None = None
        self._threads = [
            threading.Thread(target=self._serve, name=f"poet-solve-{number}", daemon=True)
            for number in range(solves_at_once)
        ]
        self._started = False

    async def start(self) -> None:
        """Raises UsageError (`state_in_use`) and ServiceError."""
        await asyncio.to_thread(self._start)

    async def submit(self, solve_id: str) -> None:  # noqa: ARG002  The Store says which.
        """Wake a thread."""
        self._wake()

    async def stop(self, solve_id: str) -> None:
        """End a solve that runs here with what it has."""
        with self._work:
            stop = self._running.get(solve_id)
        if stop is not None:
            stop.set()

    async def close(self) -> None:
        """Waits until every child is gone and its solve is queued again."""
        await asyncio.to_thread(self._close)

    def ready(self) -> str | None:
        """None where queued solves are carried out, else why not."""
        if not self._started or self._leaving.is_set():
            return "The executor does not run."
        return self._trouble or self._nursery.ready()

    # -- in threads ---------------------------------------------------------------------------

    def _start(self) -> None:
        with contextlib.ExitStack() as undo:
            self._lock.take()
            undo.callback(self._lock.release)
            self._nursery.start()
            undo.callback(self._nursery.close)
            for solve in self._store.running():
                self._store.lost(solve.id, solve.attempt)
            undo.pop_all()
        self._started = True
        for thread in self._threads:
            thread.start()

    def _close(self) -> None:
        self._leaving.set()
        self._wake()
        if self._started:
            for thread in self._threads:
                thread.join()
            self._nursery.close()
            self._lock.release()
        self._started = False

    def _tell(self, solve_id: str) -> None:
        if self.notify is not None:
            self.notify(solve_id)

    def _wake(self) -> None:
        with self._work:
            self._news = True
            self._work.notify_all()

    def _serve(self) -> None:
        """One thread's life: solve after solve."""
        while not self._leaving.is_set():
            try:
                solve_id = self._take()
                self._trouble = None
                if solve_id is None:
                    self._rest()
                else:
                    self._carry_out(solve_id)
            except ServiceError as error:  # the database is away, or no child can be had
                self._trouble = error.message
                _LOG.warning("solves wait: %s", error.message)
                self._leaving.wait(_TROUBLE_SECONDS)
            except Exception:  # noqa: BLE001  A fault of ours ends one solve and no thread.
                _LOG.exception("a solve's thread failed")
                self._leaving.wait(_TROUBLE_SECONDS)

    def _take(self) -> str | None:
        """The oldest queued solve that no other thread here has taken already."""
        with self._looking:
            with self._work:
                self._news = False
            self._reconcile()
            queued = self._store.queued(len(self._threads) + 1)
            with self._work:
                solve_id = next((one for one in queued if one not in self._running), None)
                if solve_id is not None:
                    self._running[solve_id] = threading.Event()
            return solve_id

    def _carry_out(self, solve_id: str) -> None:
        try:
            run_solve(
                self._store,
                solve_id,
                self._worker,
                self._running[solve_id],
                self._limits,
                nursery=self._nursery,
                leaving=self._leaving,
            )
        finally:
            with self._work:
                del self._running[solve_id]

    def _rest(self) -> None:
        with self._work:
            if not self._news and not self._leaving.is_set():
                self._work.wait(self._reconcile_seconds)

    def _reconcile(self) -> None:
        """Now and then: solves that are said to run, and do not run here; a warm process that died."""
        if time.monotonic() - self._looked_at < self._reconcile_seconds:
            return
        for solve in self._store.running():
            with self._work:
                ours = solve.id in self._running
            if not ours:
                self._store.lost(solve.id, solve.attempt)
        self._nursery.ensure()
        self._looked_at = time.monotonic()
