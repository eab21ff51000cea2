"""SolveWorker: takes solves from the queue and runs them, N at once, until it is told to end.

procrastinate's Worker fetches, beats and acknowledges; what a job does is `run`, the same code as
in embedded mode, in a thread of its own. Invariants:

    a job is acknowledged (deleted) only after `run` has returned, so a claimed solve always has its job
    told to end, it fetches nothing more; what still runs after the grace is killed and queued again
    whatever ends procrastinate's Worker otherwise ends as another one, after a pause that grows
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from procrastinate import JobContext
from procrastinate.exceptions import ProcrastinateException
from procrastinate.worker import Worker

from poet_core.errors import ServiceError
from poet_service.execution.distributed import make_reconciler, settle_seconds
from poet_service.execution.distributed_connector import LONGEST_PAUSE_SECONDS
from poet_service.execution.distributed_queue import QUEUE, TASK, SolveQueue
from poet_service.execution.distributed_reconcile import (
    FORGET_AFTER_SILENCES,
    Silences,
    Solves,
    reconcile_for_ever,
)
from poet_service.jobs.states import SolveState
from poet_service.settings import Settings

logger = logging.getLogger(__name__)

# Runs one solve in the calling thread; ends soon after the event is set, the solve then queued again.
Run = Callable[[str, threading.Event], SolveState | None]

# A worker waits for its database for as long as it takes.
PATIENCE_SECONDS = 10 * 365 * 86400.0
LONGEST_RESTART_SECONDS = 30.0


class SolveWorker:
    """One worker process's part in the queue. `alive` is called while the database answers."""

    def __init__(
        self,
        store: Solves,
        settings: Settings,
        run: Run,
        *,
        name: str,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._run = run
        self._name = name
        self._alive = alive
        self._queue = SolveQueue(
            settings.database_url, name=f"poet worker {name}", patience_seconds=PATIENCE_SECONDS
        )
        self._threads = ThreadPoolExecutor(settings.solves, thread_name_prefix="solve")
        self._leaving: dict[int, threading.Event] = {}
        self._worker: Worker | None = None
        self._ending = asyncio.Event()
        self._hurrying = asyncio.Event()

    async def work(self, announce: Callable[[str], None] = lambda _: None) -> None:
        """Work until `end` was called; `announce` hears its name at the beginning. Raises
        ServiceError where the database cannot be used at the start."""
        await asyncio.to_thread(self._queue.ensure_schema)
        await self._queue.open()
        self._queue.app.task(name=TASK, queue=QUEUE, pass_context=True)(self._solve)
        beside = [
            asyncio.create_task(self._reconcile(), name="reconcile"),
            asyncio.create_task(self._give_back_forgotten(), name="forgotten"),
            asyncio.create_task(self._hurry_after_grace(), name="grace"),
        ]
        announce(self._name)
        try:
            await self._work_again_and_again()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._queue.close()
            self._threads.shutdown()

    def end(self) -> None:
        """Fetch nothing more and end within the grace; called again, end at once."""
        if self._ending.is_set():
            self._hurrying.set()
        self._ending.set()
        if self._worker is not None:
            self._worker.stop()  # type: ignore[no-untyped-call]  # procrastinate's has no annotations

    async def _work_again_and_again(self) -> None:
        pause_seconds = LONGEST_PAUSE_SECONDS
        while not self._ending.is_set():
            began = time.monotonic()
            self._worker = self._one_worker()
            try:
                await self._worker.run()  # type: ignore[no-untyped-call]  # as above
            except (ProcrastinateException, OSError) as error:
                if self._ending.is_set():
                    logger.warning("The database was away at the end: %s", error.__cause__ or error)
                    return
                logger.warning("The worker begins anew: %s", error.__cause__ or error)
            if time.monotonic() - began > LONGEST_RESTART_SECONDS:
                pause_seconds = LONGEST_PAUSE_SECONDS
            await _at_most(self._ending.wait(), pause_seconds)
            pause_seconds = min(2 * pause_seconds, LONGEST_RESTART_SECONDS)

    def _one_worker(self) -> Worker:
        settings = self._settings
        return Worker(
            app=self._queue.app,
            queues=[QUEUE],
            name=self._name,
            concurrency=settings.solves,
            fetch_job_polling_interval=settings.reconcile_seconds,
            # Nobody aborts through procrastinate: a client's stop is in the Store.
            abort_job_polling_interval=LONGEST_RESTART_SECONDS,
            shutdown_graceful_timeout=settings.worker_grace_seconds,
            delete_jobs="always",
            install_signal_handlers=False,
            update_heartbeat_interval=settings.worker_heartbeat_seconds,
            # Who is silent is the Reconciler's to say; this only tidies up at a start.
            stalled_worker_timeout=FORGET_AFTER_SILENCES * settings.worker_lost_seconds,
        )

    async def _solve(self, context: JobContext, solve_id: str) -> None:
        job_id = context.job.id
        assert job_id is not None  # it came from the database
        leaving = self._leaving[job_id] = threading.Event()
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, solve_id, leaving
        )
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            leaving.set()
            await asyncio.wait([running])
            _note_failure(solve_id, running.exception())
        except Exception as error:  # noqa: BLE001  Whatever it was: the Reconciler finds the solve.
            _note_failure(solve_id, error)
        finally:
            del self._leaving[job_id]

    async def _reconcile(self) -> None:
        await reconcile_for_ever(
            make_reconciler(self._store, self._queue, self._settings),
            every_seconds=self._settings.reconcile_seconds,
            after=lambda outcome: self._alive() if outcome is None else None,
        )

    async def _give_back_forgotten(self) -> None:
        """Release jobs that are ours in the queue and unknown here: the answer to their fetch was
        lost."""
        silences: Silences[int] = Silences(settle_seconds(self._settings), time.monotonic)
        while True:
            await asyncio.sleep(self._settings.reconcile_seconds)
            worker_id = self._worker.worker_id if self._worker is not None else None
            if worker_id is None:
                continue
            try:
                jobs = await self._queue.jobs(self._settings.worker_lost_seconds)
                forgotten = [
                    job.job_id
                    for job in jobs
                    if job.worker_id == worker_id and job.taken and job.job_id not in self._leaving
                ]
                for job_id in silences.settled(forgotten):
                    logger.warning(
                        "Gives back job %s, which was fetched and never arrived.", job_id
                    )
                    await self._queue.release(job_id)
            except ServiceError:
                silences.clear()

    async def _hurry_after_grace(self) -> None:
        await self._ending.wait()
        await _at_most(self._hurrying.wait(), self._settings.worker_grace_seconds)
        self._queue.connector.hurry()
        for leaving in self._leaving.values():
            leaving.set()


def _note_failure(solve_id: str, error: BaseException | None) -> None:
    if isinstance(error, ServiceError):
        logger.warning("Solve %s was left: %s", solve_id, error.message)
    elif error is not None:
        logger.error("Solve %s was left.", solve_id, exc_info=error)


async def _at_most(waiting: Awaitable[object], seconds: float) -> None:
    try:
        await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return
