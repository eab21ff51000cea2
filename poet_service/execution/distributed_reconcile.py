"""Reconciler: makes the queue say what the Store says, again and again, whoever died in between.

    a solve is       and the queue                                   so
    QUEUED           has no job for it (lost between two commits)    it is deferred again
    QUEUED           has one whose worker fell silent                the job is released, then as above
    RUNNING          has no job that a living worker works on        the solve is lost: requeued once
    ended, or gone   still has a job under a silent worker           the job is released

The invariant that makes the third line right: a worker claims a solve only while it works on its
job, and writes the end before it lets go of the job. So a solve that was RUNNING before the jobs
were read, and has none, has no worker.

A silence must be heard for `settle_seconds` before anything is concluded from it, without an outage
in between: after a restart of PostgreSQL every worker's last heartbeat is old, and all of them are
about to send the next one. What is then done is compare-and-set, so any number of processes may
reconcile at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from poet_core.errors import ServiceError
from poet_service.execution.distributed_queue import QueuedJob
from poet_service.jobs.records import SolveRecord
from poet_service.jobs.states import SolveState

logger = logging.getLogger(__name__)
Item = TypeVar("Item", bound=Hashable)

# Solves deferred in one pass at most; the next pass takes the next ones.
MOST_DEFERRED = 1000
# procrastinate's rows of workers are kept for so many silences: longer than anybody needs them.
FORGET_AFTER_SILENCES = 10


class Solves(Protocol):
    """What the reconciler asks of the Store."""

    def queued(self, limit: int) -> list[str]: ...
    def running(self) -> list[SolveRecord]: ...
    def lost(self, solve_id: str, attempt: int) -> SolveState | None: ...


class Jobs(Protocol):
    """What the reconciler asks of the queue."""

    async def jobs(self, lost_seconds: float) -> list[QueuedJob]: ...
    async def defer(self, solve_id: str) -> bool: ...
    async def release(self, job_id: int) -> None: ...
    async def forget_workers(self, silent_seconds: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What one pass did: solves put into the queue, solves found lost, jobs of silent workers
    released."""

    deferred: tuple[str, ...]
    lost: tuple[str, ...]
    released: tuple[int, ...]


class Reconciler:
    """One pass at a time; remembers between passes what was silent."""

    def __init__(
        self,
        store: Solves,
        queue: Jobs,
        *,
        lost_seconds: float,
        settle_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._queue = queue
        self._lost_seconds = lost_seconds
        self._silences: Silences[Hashable] = Silences(settle_seconds, monotonic)

    async def reconcile(self) -> Reconciled:
        """One pass. Raises ServiceError where the database does not answer; then all silence is
        forgotten."""
        try:
            return await self._reconcile()
        except ServiceError:
            self._silences.clear()
            raise

    async def _reconcile(self) -> Reconciled:
        # Running solves before jobs; see the invariant above.
        running = await asyncio.to_thread(self._store.running)
        queued = await asyncio.to_thread(self._store.queued, MOST_DEFERRED)
        jobs = await self._queue.jobs(self._lost_seconds)
        worked_on = {job.solve_id for job in jobs if job.taken and not job.stalled}
        silent_jobs = [job for job in jobs if job.taken and job.stalled]
        silent_solves = [solve for solve in running if solve.id not in worked_on]
        settled = self._silences.settled(
            [*map(_of_job, silent_jobs), *map(_of_solve, silent_solves)]
        )

        released = [job.job_id for job in silent_jobs if _of_job(job) in settled]
        for job_id in released:
            await self._queue.release(job_id)
        lost: dict[str, SolveState | None] = {}
        for solve in silent_solves:
            if _of_solve(solve) in settled:
                lost[solve.id] = await asyncio.to_thread(self._store.lost, solve.id, solve.attempt)
        requeued = [solve_id for solve_id, state in lost.items() if state is SolveState.QUEUED]

        has_job = {job.solve_id for job in jobs if job.job_id not in released}
        deferred = [
            solve_id
            for solve_id in [*queued, *requeued]
            if solve_id not in has_job and await self._queue.defer(solve_id)
        ]
        await self._queue.forget_workers(FORGET_AFTER_SILENCES * self._lost_seconds)
        return Reconciled(
            deferred=tuple(deferred),
            # None: somebody else was faster, or its worker ended it in this moment.
            lost=tuple(solve_id for solve_id, state in lost.items() if state is not None),
            released=tuple(released),
        )


class Silences(Generic[Item]):
    """Since when something has been silent without a break."""

    def __init__(self, settle_seconds: float, monotonic: Callable[[], float]) -> None:
        self._settle_seconds = settle_seconds
        self._monotonic = monotonic
        self._since: dict[Item, float] = {}

    def settled(self, silent: Collection[Item]) -> set[Item]:
        """Of what is silent now, that which has been at every call for the settling time."""
        now = self._monotonic()
        self._since = {item: self._since.get(item, now) for item in silent}
        return {item for item, since in self._since.items() if now - since >= self._settle_seconds}

    def clear(self) -> None:
        """Begin to listen anew."""
        self._since.clear()


def _of_job(job: QueuedJob) -> tuple[str, int]:
    return ("job", job.job_id)


def _of_solve(solve: SolveRecord) -> tuple[str, str, int]:
    return ("solve", solve.id, solve.attempt)


async def reconcile_for_ever(
    reconciler: Reconciler, *, every_seconds: float, after: Callable[[Exception | None], None]
) -> None:
    """A pass every so often until cancelled; `after` hears how each went."""
    while True:
        outcome: Exception | None = None
        try:
            done = await reconciler.reconcile()
            if done.lost or done.released:
                logger.warning(
                    "Lost: %s; jobs taken from silent workers: %d.",
                    ", ".join(done.lost) or "no solve",
                    len(done.released),
                )
        except ServiceError as error:
            logger.warning("Not reconciled: %s", error.message)
            outcome = error
        except Exception as error:
            # A fault of ours; without the next pass nobody would ever find a lost solve again.
            logger.exception("Not reconciled.")
            outcome = error
        after(outcome)
        # Not all processes in the same moment.
        await asyncio.sleep(every_seconds * random.uniform(0.8, 1.2))
