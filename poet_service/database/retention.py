"""Retention: what has ended and is old goes, and where too much is stored the oldest goes first.

Active solves and their jobs are never touched. A solve goes with the last job that points at it,
so an answer lives as long as somebody asks for it. Work is done in small transactions, because
others wait meanwhile.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    exists,
    func,
    or_,
    select,
)

from poet_service.database.jobs import referred_to
from poet_service.database.logbook import MOST_EVENTS
from poet_service.database.part import Part
from poet_service.database.tables import JOB_PLANS, JOB_POINTS, JOBS, SOLVES
from poet_service.jobs.records import Swept
from poet_service.jobs.states import ACTIVE, ENDED

_JOBS_AT_ONCE = 256
# What a row costs beside its large values, with its indexes, measured on SQLite and rounded up.
_JOB_BYTES = 512
_SOLVE_BYTES = 1024
_EVENT_BYTES = 256


class Retention(Part):
    """The part of the Store that forgets."""

    def sweep(self, *, older_than_seconds: float, most_bytes: int) -> Swept:
        """Erase ended jobs that are older than `older_than_seconds`, and while more than
        `most_bytes` are stored, the oldest ended ones; then the ended solves without a job."""
        before = self._clock() - older_than_seconds
        jobs, solves = 0, self._erase_orphans()
        while ids := self._database.read(lambda connection: _old_jobs(connection, before)):
            erased = self._erase(ids)
            jobs, solves = jobs + erased.jobs, solves + erased.solves
            if not erased.jobs:
                break
        stored = self.stored_bytes()
        while stored > most_bytes:
            excess = stored - most_bytes
            ids = self._database.read(lambda connection: _oldest_jobs(connection, excess))  # noqa: B023
            erased = self._erase(ids)
            jobs, solves = jobs + erased.jobs, solves + erased.solves
            if not erased.jobs:
                break
            stored -= erased.stored_bytes
        if jobs or solves:
            self._database.shrink()
        return Swept(jobs=jobs, solves=solves, stored_bytes=max(0, stored))

    def stored_bytes(self) -> int:
        """About how much is stored: documents and logs by their length, rows by a flat figure."""
        return self._database.read(
            lambda connection: sum(
                int(connection.execute(statement).scalar_one()) for statement in _STORED
            )
        )

    def _erase(self, job_ids: list[str]) -> Swept:
        """Erase jobs and the solves that go with them; `stored_bytes` of the answer is what that
        made free."""

        def work(connection: Connection) -> Swept:
            ids = {"ids_": job_ids}
            solve_ids = list(connection.execute(_SOLVES_OF, ids).scalars())
            freed = int(connection.execute(_KEPT_BYTES, ids).scalar_one())
            jobs = connection.execute(_DELETE_JOBS, ids).rowcount
            sizes = list(connection.execute(_DELETE_SOLVES, {"ids_": solve_ids}).scalars())
            freed += jobs * _JOB_BYTES + sum(map(int, sizes))
            return Swept(jobs=jobs, solves=len(sizes), stored_bytes=freed)

        return self._database.write(work) if job_ids else Swept(jobs=0, solves=0, stored_bytes=0)

    def _erase_orphans(self) -> int:
        """Ended solves without a job: their last one was discarded while they ran."""
        erased = 0
        while ids := self._database.read(
            lambda connection: list(connection.execute(_ORPHANS).scalars())
        ):
            gone = self._database.write(
                lambda connection: len(connection.execute(_DELETE_SOLVES, {"ids_": ids}).all())
            )
            erased += gone
            if not gone:
                break
        return erased


def _old_jobs(connection: Connection, before: float) -> list[str]:
    return list(connection.execute(_OLD, {"before_": before}).scalars())


def _oldest_jobs(connection: Connection, excess_bytes: int) -> list[str]:
    """The oldest ended jobs that together free about `excess_bytes`."""
    ids: list[str] = []
    for job_id, size in connection.execute(_OLDEST):
        if excess_bytes <= 0:
            break
        ids.append(job_id)
        excess_bytes -= int(size)
    return ids


def _solve_bytes() -> ColumnElement[int]:
    events = case((SOLVES.c.last_seq < MOST_EVENTS, SOLVES.c.last_seq), else_=MOST_EVENTS)
    return (
        SOLVES.c.input_bytes
        + SOLVES.c.plan_bytes
        + SOLVES.c.log_bytes
        + events * _EVENT_BYTES
        + _SOLVE_BYTES
    )


def _has_solve(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """A solve of the job, as its own or as a point, for which one of the conditions holds."""
    own = exists().where(SOLVES.c.id == JOBS.c.solve_id, or_(*conditions))
    point = exists().where(
        JOB_POINTS.c.job_id == JOBS.c.id, SOLVES.c.id == JOB_POINTS.c.solve_id, or_(*conditions)
    )
    return or_(own, point)


def _total(column: ColumnElement[Any]) -> ColumnElement[int]:
    return func.coalesce(func.sum(column), 0)


_ACTIVE = SOLVES.c.state.in_(sorted(ACTIVE))
_IDS: BindParameter[str] = bindparam("ids_", expanding=True)
_OLD = (
    select(JOBS.c.id)
    .where(
        JOBS.c.created_at < bindparam("before_"),
        ~_has_solve(_ACTIVE, SOLVES.c.finished_at >= bindparam("before_")),
    )
    .limit(_JOBS_AT_ONCE)
)
_LATER = JOBS.alias("later")
# What a job frees is its row, and its solve where no newer job points at that.
_OLDEST = (
    select(
        JOBS.c.id,
        _JOB_BYTES
        + select(_total(_solve_bytes()))
        .where(
            or_(
                SOLVES.c.id == JOBS.c.solve_id,
                SOLVES.c.id.in_(
                    select(JOB_POINTS.c.solve_id)
                    .where(JOB_POINTS.c.job_id == JOBS.c.id)
                    .correlate(JOBS)
                ),
            ),
            ~exists()
            .where(_LATER.c.solve_id == SOLVES.c.id, _LATER.c.number > JOBS.c.number)
            .correlate(SOLVES, JOBS),
        )
        .correlate(JOBS)
        .scalar_subquery(),
    )
    .where(~_has_solve(_ACTIVE))
    .order_by(JOBS.c.number)
    .limit(_JOBS_AT_ONCE)
)
_SOLVES_OF = (
    select(JOBS.c.solve_id)
    .where(JOBS.c.id.in_(_IDS), JOBS.c.solve_id.is_not(None))
    .union(select(JOB_POINTS.c.solve_id).where(JOB_POINTS.c.job_id.in_(_IDS)))
)
_KEPT_BYTES = select(_total(func.length(JOB_PLANS.c.plan))).where(JOB_PLANS.c.job_id.in_(_IDS))
_DELETE_JOBS = delete(JOBS).where(JOBS.c.id.in_(_IDS), ~_has_solve(_ACTIVE))
_DELETE_SOLVES = (
    delete(SOLVES)
    .where(SOLVES.c.id.in_(_IDS), SOLVES.c.state.in_(sorted(ENDED)), ~referred_to())
    .returning(_solve_bytes())
)
_ORPHANS = (
    select(SOLVES.c.id)
    .where(SOLVES.c.state.in_(sorted(ENDED)), ~referred_to())
    .limit(_JOBS_AT_ONCE)
)
_STORED = (
    select(_total(_solve_bytes())),
    select(_total(func.length(JOB_PLANS.c.plan))),
    select(func.count() * _JOB_BYTES).select_from(JOBS),
)
