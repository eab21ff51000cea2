"""SolveQueue: who is to work on which solve, in procrastinate's tables beside the Store's.

A job's only argument is the solve's id. The Store is the record of what happened; this queue says
only what waits and who works on it, so a job that has ended is deleted. Lock and queueing lock are
the solve's id: at most one job of a solve waits, at most one runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from procrastinate import App
from procrastinate.exceptions import AlreadyEnqueued, ProcrastinateException
from procrastinate.jobs import Job, Status
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from poet_core.errors import UsageError
from poet_service.execution.distributed_connector import PatientConnector
from poet_service.execution.distributed_schema import ensure_queue_schema, queue_unavailable

QUEUE = "solves"
TASK = "poet.solve"
ARGUMENT = "solve_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedJob:
    """One job of procrastinate's. `taken`: a worker has fetched it. `stalled`: that worker's
    heartbeat has ceased."""

    job_id: int
    solve_id: str
    taken: bool
    stalled: bool
    worker_id: int | None


class SolveQueue:
    """The queue, for the processes that fill it and (through `app`) for those that empty it."""

    def __init__(self, url: str, *, name: str, patience_seconds: float) -> None:
        self._conninfo = conninfo_of(url)
        self.connector = PatientConnector(
            self._conninfo, name=name, patience_seconds=patience_seconds
        )
        self.app = App(connector=self.connector)

    def ensure_schema(self) -> None:
        """Make or upgrade the tables; blocks, so callers on an event loop use a thread."""
        ensure_queue_schema(self._conninfo)

    async def open(self) -> None:
        """Connect. Raises ServiceError `database_unavailable`."""
        import psycopg

        try:
            await self.app.open_async()
        except (psycopg.Error, ProcrastinateException) as error:
            raise queue_unavailable(error) from error

    async def close(self) -> None:
        """Let go of every connection."""
        self.connector.hurry()
        await self.app.close_async()

    async def defer(self, solve_id: str) -> bool:
        """Put a solve into the queue; False where it waits there already."""
        job = self.app.configure_task(TASK, queue=QUEUE, lock=solve_id, queueing_lock=solve_id)
        try:
            await job.defer_async(**{ARGUMENT: solve_id})
        except AlreadyEnqueued:
            return False
        except ProcrastinateException as error:
            raise queue_unavailable(error) from error
        return True

    async def jobs(self, lost_seconds: float) -> list[QueuedJob]:
        """Every job that waits or runs. A worker silent for `lost_seconds` has stalled."""
        try:
            stalled = {
                job.id
                for job in await self.app.job_manager.get_stalled_jobs(
                    queue=QUEUE, seconds_since_heartbeat=lost_seconds
                )
            }
            listed = await self.app.job_manager.list_jobs_async(queue=QUEUE)
        except ProcrastinateException as error:
            raise queue_unavailable(error) from error
        return [_queued(job, stalled) for job in listed if job.status in _ALIVE]

    async def release(self, job_id: int) -> None:
        """Delete a job that nobody works on any more; nothing where it is gone."""
        try:
            await self.app.job_manager.finish_job_by_id_async(
                job_id=job_id, status=Status.ABORTED, delete_job=True
            )
        except ProcrastinateException as error:
            raise queue_unavailable(error) from error

    async def forget_workers(self, silent_seconds: float) -> None:
        """Delete procrastinate's rows of workers that have been silent for so long."""
        try:
            await self.app.job_manager.prune_stalled_workers(silent_seconds)
        except ProcrastinateException as error:
            raise queue_unavailable(error) from error


_ALIVE = frozenset({Status.TODO.value, Status.DOING.value})


def _queued(job: Job, stalled: Iterable[int | None]) -> QueuedJob:
    assert job.id is not None  # it came from the database
    return QueuedJob(
        job_id=job.id,
        solve_id=str(job.task_kwargs.get(ARGUMENT)),
        taken=job.status == Status.DOING.value,
        stalled=job.id in stalled,
        worker_id=job.worker_id,
    )


def conninfo_of(url: str) -> str:
    """The libpq URI of an SQLAlchemy URL. Raises UsageError where it is no PostgreSQL URL."""
    try:
        parsed: URL = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise not_postgresql("something that is no URL") from error
    if parsed.get_backend_name() != "postgresql":
        raise not_postgresql(parsed.get_backend_name())
    return parsed.set(drivername="postgresql").render_as_string(hide_password=False)


def not_postgresql(got: str) -> UsageError:
    """Several machines share one database server; a file cannot be shared so."""
    return UsageError(
        f"Workers need a PostgreSQL URL, got {got}.",
        code="database_not_shared",
        hint="E.g. --database postgresql://poet:secret@db.example/poet. "
        "With SQLite, `poet serve` solves by itself and needs no workers.",
    )
