"""ProcrastinateExecutor: the API process's side of solving on several machines.

    POST -> Store.submit -> executor.submit -> procrastinate's queue, in the same PostgreSQL
                                                   └─> `poet worker` on any machine

The two commits are not one: what is lost between them (a killed API process, a lost connection) is
found by the Reconciler, which every API process and every worker runs. So a submission never fails
because of the queue, and this process keeps nothing that another could not take over.
"""

from __future__ import annotations

import asyncio
import logging

from poet_core.errors import ServiceError
from poet_service.execution.distributed_queue import SolveQueue
from poet_service.execution.distributed_reconcile import Reconciler, Solves, reconcile_for_ever
from poet_service.settings import Settings

logger = logging.getLogger(__name__)

# What a POST waits for the queue while the database is away; then the solve is the Reconciler's.
PATIENCE_SECONDS = 1.0


class ProcrastinateExecutor:
    """Runs no solve itself. `start` before anything else; `close` leaves every solve where it is."""

    def __init__(self, store: Solves, settings: Settings) -> None:
        self._settings = settings
        self._store = store
        self._queue: SolveQueue | None = None
        self._reconciling: asyncio.Task[None] | None = None
        self._why_not_ready: str | None = "The queue has not been opened yet."

    async def start(self) -> None:
        """Bring the queue's tables up to date and connect. Raises ServiceError."""
        queue = SolveQueue(
            self._settings.database_url, name="poet serve", patience_seconds=PATIENCE_SECONDS
        )
        await asyncio.to_thread(queue.ensure_schema)
        await queue.open()
        self._queue = queue
        self._why_not_ready = None
        self._reconciling = asyncio.create_task(
            reconcile_for_ever(
                make_reconciler(self._store, queue, self._settings),
                every_seconds=self._settings.reconcile_seconds,
                after=self._note,
            ),
            name="reconcile",
        )

    async def submit(self, solve_id: str) -> None:
        """Put a queued solve before the workers; twice is once."""
        if self._queue is None:
            return
        try:
            await self._queue.defer(solve_id)
        except ServiceError as error:
            logger.warning(
                "Solve %s waits for the next reconciliation: %s", solve_id, error.message
            )

    async def stop(self, solve_id: str) -> None:
        """Nothing to send: its worker reads `stop_requested` from the Store."""

    async def close(self) -> None:
        """End this process's part. The workers go on."""
        if self._reconciling is not None:
            self._reconciling.cancel()
            await asyncio.gather(self._reconciling, return_exceptions=True)
            self._reconciling = None
        if self._queue is not None:
            await self._queue.close()
            self._queue = None
        self._why_not_ready = "The service is ending."

    def ready(self) -> str | None:
        """None when the queue answered last time it was asked, else why not."""
        return self._why_not_ready

    def _note(self, outcome: Exception | None) -> None:
        self._why_not_ready = None if outcome is None else str(outcome)


def make_reconciler(store: Solves, queue: SolveQueue, settings: Settings) -> Reconciler:
    """The Reconciler that the settings ask for; the same in every process."""
    return Reconciler(
        store,
        queue,
        lost_seconds=settings.worker_lost_seconds,
        settle_seconds=settle_seconds(settings),
    )


def settle_seconds(settings: Settings) -> float:
    """How long a silence must last before it is believed: two looks and two heartbeats, so that a
    clock that jumped, or an outage, is followed by a heartbeat first."""
    return 2 * max(settings.reconcile_seconds, settings.worker_heartbeat_seconds)
