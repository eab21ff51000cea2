"""Jobs as their token sees them, and how a job leaves.

Every question names the token: another token's job is None, like one that does not exist. A solve
goes on as long as one job waits for it; with the last one it stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    or_,
    select,
    update,
)

from poet_core.errors import ServiceError
from poet_service.database.part import Part
from poet_service.database.rows import JOB_COLUMNS, SOLVE_COLUMNS, job_record, solve_record
from poet_service.database.tables import JOB_PLANS, JOB_POINTS, JOBS, SOLVE_PLANS, SOLVES
from poet_service.database.transitions import stop_unclaimed
from poet_service.jobs.records import JobRecord, Left, PointRecord, SolveRecord
from poet_service.jobs.states import ENDED, SolveState


class Jobs(Part):
    """The part of the Store that answers for one token."""

    def job(self, job_id: str, token_id: int) -> JobRecord | None:
        """The job of this token, or None."""
        return self._database.read(lambda connection: _job(connection, job_id, token_id))

    def jobs(self, token_id: int, *, limit: int, before: str | None) -> list[JobRecord]:
        """At most `limit` jobs of this token, the newest first. `before` is the id of the last job
        of the page before. Raises ServiceError (`cursor_unknown`)."""

        def work(connection: Connection) -> list[JobRecord]:
            statement = _PAGE
            if before is not None:
                number = connection.execute(_NUMBER, {"job_": before, "token_": token_id}).scalar()
                if number is None:
                    raise ServiceError(
                        "The job that this page should begin after does not exist any more.",
                        code="cursor_unknown",
                        hint="List from the beginning again.",
                    )
                statement = statement.where(JOBS.c.number < literal(number))
            rows = connection.execute(statement, {"token_": token_id, "limit_": limit}).all()
            points = job_points(connection, [row.id for row in rows if row.solve_id is None])
            return [
                job_record(row, points.get(row.id, ()), has_plan=bool(row.has_plan)) for row in rows
            ]

        return self._database.read(work)

    def job_plan(self, job_id: str) -> bytes | None:
        """The plan that was kept when the job left."""
        data = self._database.read(
            lambda connection: connection.execute(_JOB_PLAN, {"job_": job_id}).scalar()
        )
        return None if data is None else bytes(data)

    def leave(self, job_id: str, token_id: int, *, discard: bool) -> Left | None:
        """The job wants nothing any more; None where this token has no such job. A job whose
        solves have all ended stays as it is. With `discard` it is erased, and each ended solve
        that no other job points at with it; running ones follow at the next sweep."""

        def work(connection: Connection) -> Left | None:
            job = _job(connection, job_id, token_id)
            if job is None:
                return None
            solves = _lock(connection, job.solve_ids)
            if discard:
                connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
                connection.execute(
                    delete(SOLVES).where(
                        SOLVES.c.id.in_(job.solve_ids),
                        SOLVES.c.state.in_(sorted(ENDED)),
                        ~referred_to(),
                    )
                )
            elif job.left_at is not None or all(solve.state in ENDED for solve in solves):
                return Left(job=job, solves_to_stop=())
            else:
                self._keep_standing(connection, job, solves)
            stop = tuple(
                solve.id for solve in solves if _stop_unwanted(connection, solve, self._clock())
            )
            after = _discarded(job) if discard else _job(connection, job_id, token_id)
            return Left(job=after or job, solves_to_stop=stop)

        return self._database.write(work)

    def _keep_standing(
        self, connection: Connection, job: JobRecord, solves: Sequence[SolveRecord]
    ) -> None:
        values: dict[str, Any] = {"left_at": self._clock()}
        if job.solve_id is not None:
            solve = solves[0]
            values |= {
                "left_cost": solve.cost,
                "left_bound": solve.bound,
                "left_gap": solve.gap,
                "left_elapsed_seconds": solve.elapsed_seconds,
            }
            connection.execute(
                insert(JOB_PLANS).from_select(
                    ["job_id", "plan"],
                    select(literal(job.id), SOLVE_PLANS.c.plan).where(
                        SOLVE_PLANS.c.solve_id == solve.id
                    ),
                )
            )
        connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(**values))


def job_points(
    connection: Connection, job_ids: Sequence[str]
) -> dict[str, tuple[PointRecord, ...]]:
    """The points of frontier jobs, by job, in the order in which they were asked for."""
    points: dict[str, tuple[PointRecord, ...]] = {}
    if job_ids:
        for job_id, ram_bytes, solve_id in connection.execute(_POINTS, {"ids_": list(job_ids)}):
            point = PointRecord(ram_bytes=int(ram_bytes), solve_id=solve_id)
            points[job_id] = (*points.get(job_id, ()), point)
    return points


def referred_to(*, waiting: bool = False) -> Any:
    """The SQL condition that a job points at a solve, or, `waiting`, one that has not left."""
    stays = (JOBS.c.left_at.is_(None),) if waiting else ()
    plans = exists().where(JOBS.c.solve_id == SOLVES.c.id, *stays)
    points = exists().where(
        JOB_POINTS.c.solve_id == SOLVES.c.id, JOBS.c.id == JOB_POINTS.c.job_id, *stays
    )
    return or_(plans, points)


def _job(connection: Connection, job_id: str, token_id: int) -> JobRecord | None:
    row: Row[*tuple[Any, ...]] | None = connection.execute(
        _JOB, {"job_": job_id, "token_": token_id}
    ).first()
    if row is None:
        return None
    points = job_points(connection, [] if row.solve_id is not None else [job_id])
    return job_record(row, points.get(job_id, ()), has_plan=bool(row.has_plan))


def _lock(connection: Connection, solve_ids: Sequence[str]) -> list[SolveRecord]:
    """The solves, held until the commit: no job joins and no worker moves them meanwhile."""
    rows = connection.execute(_LOCK, {"ids_": list(solve_ids)}).all()
    return [solve_record(row) for row in rows]


def _stop_unwanted(connection: Connection, solve: SolveRecord, now: float) -> bool:
    """Whether a running solve must be told to stop, because no job waits for it any more."""
    if solve.state in ENDED or solve.stop_requested:
        return False
    if connection.execute(_WANTED, {"solve_": solve.id}).first() is not None:
        return False
    if solve.state == SolveState.QUEUED:
        stop_unclaimed(connection, solve.id, solve.attempt, now)
        return False
    connection.execute(_REQUEST_STOP, {"solve_": solve.id})
    return True


def _discarded(job: JobRecord) -> JobRecord:
    return JobRecord(
        id=job.id,
        kind=job.kind,
        token_id=job.token_id,
        tenant=job.tenant,
        created_at=job.created_at,
        solve_id=job.solve_id,
        left_at=job.left_at,
        standing=job.standing,
        discarded=True,
        points=job.points,
    )


_HAS_PLAN = exists().where(JOB_PLANS.c.job_id == JOBS.c.id).label("has_plan")
_JOB = select(*JOB_COLUMNS, _HAS_PLAN).where(
    JOBS.c.id == bindparam("job_"), JOBS.c.token_id == bindparam("token_")
)
_PAGE = (
    select(*JOB_COLUMNS, _HAS_PLAN)
    .where(JOBS.c.token_id == bindparam("token_"))
    .order_by(JOBS.c.number.desc())
    .limit(bindparam("limit_"))
)
_NUMBER = select(JOBS.c.number).where(
    JOBS.c.id == bindparam("job_"), JOBS.c.token_id == bindparam("token_")
)
_JOB_PLAN = select(JOB_PLANS.c.plan).where(JOB_PLANS.c.job_id == bindparam("job_"))
_POINTS = (
    select(JOB_POINTS.c.job_id, JOB_POINTS.c.ram_bytes, JOB_POINTS.c.solve_id)
    .where(JOB_POINTS.c.job_id.in_(bindparam("ids_", expanding=True)))
    .order_by(JOB_POINTS.c.job_id, JOB_POINTS.c.position)
)
_LOCK = (
    select(*SOLVE_COLUMNS)
    .where(SOLVES.c.id.in_(bindparam("ids_", expanding=True)))
    .order_by(SOLVES.c.number)
    .with_for_update()
)
_WANTED = select(SOLVES.c.id).where(SOLVES.c.id == bindparam("solve_"), referred_to(waiting=True))
# Nobody joins a solve that is about to stop: its key is free for a new one.
_REQUEST_STOP = (
    update(SOLVES).where(SOLVES.c.id == bindparam("solve_")).values(stop_requested=1, key=None)
)
