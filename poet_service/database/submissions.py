"""Submissions: a job is stored together with the solve that answers it, new or joined.

A request whose key is being solved, or was solved, inside the same tenant joins that solve.
Limits count only where work is added: a stored answer is given however long the queue is. Under an
Idempotency-Key the same submission twice is one job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select

from poet_core.errors import ServiceError
from poet_service.database.admission import check_place
from poet_service.database.jobs import job_points
from poet_service.database.logbook import add_event
from poet_service.database.part import Part
from poet_service.database.rows import JOB_COLUMNS, SOLVE_COLUMNS, job_record, solve_record
from poet_service.database.tables import JOB_POINTS, JOBS, SOLVE_INPUTS, SOLVES
from poet_service.jobs.records import (
    EventKind,
    JobKind,
    JobRecord,
    PointRecord,
    QueueLimits,
    SolveRecord,
    Submitted,
    SubmittedFrontier,
)
from poet_service.jobs.states import ACTIVE, SolveState


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What plan jobs and frontier jobs have in common."""

    job_id: str
    token_id: int
    tenant: str
    wall_seconds: float
    idempotency: tuple[str, bytes] | None
    warm_start: bytes | None
    limits: QueueLimits


class Submissions(Part):
    """The part of the Store that takes jobs in."""

    def submit(
        self,
        *,
        job_id: str,
        token_id: int,
        tenant: str,
        key: bytes,
        request: bytes,
        wall_seconds: float,
        idempotency: tuple[str, bytes] | None,
        warm_start: bytes | None,
        limits: QueueLimits,
    ) -> Submitted:
        """A plan job. `idempotency` is the client's key and a digest of what it sent. Raises
        ServiceError: `queue_full`, `too_many_jobs`, `idempotency_conflict`."""
        asked = _Asked(
            job_id=job_id,
            token_id=token_id,
            tenant=tenant,
            wall_seconds=wall_seconds,
            idempotency=idempotency,
            warm_start=warm_start,
            limits=limits,
        )
        return self._database.write(lambda connection: self._plan(connection, asked, key, request))

    def submit_frontier(
        self,
        *,
        job_id: str,
        token_id: int,
        tenant: str,
        points: Sequence[tuple[int, bytes, bytes]],
        wall_seconds: float,
        idempotency: tuple[str, bytes] | None,
        warm_start: bytes | None,
        limits: QueueLimits,
    ) -> SubmittedFrontier:
        """A frontier job; a point is (ram_bytes, key, request). Raises as `submit` does."""
        asked = _Asked(
            job_id=job_id,
            token_id=token_id,
            tenant=tenant,
            wall_seconds=wall_seconds,
            idempotency=idempotency,
            warm_start=warm_start,
            limits=limits,
        )
        return self._database.write(lambda connection: self._frontier(connection, asked, points))

    def _plan(self, connection: Connection, asked: _Asked, key: bytes, request: bytes) -> Submitted:
        replayed = _replayed(connection, asked, JobKind.PLAN)
        if replayed is not None:
            solve = _solve(connection, replayed.solve_id or "")
            return Submitted(job=replayed, solve=solve, created_solve=False, replayed=True)
        found = connection.execute(_FIND, {"tenant_": asked.tenant, "key_": key}).first()
        created = False
        if found is not None and found.state == SolveState.FINISHED:
            solve = solve_record(found)
        else:
            # What adds work is serialised, and looked up again: it may have been added meanwhile.
            self._database.queue_lock(connection)
            found = connection.execute(_JOIN, {"tenant_": asked.tenant, "key_": key}).first()
            created = found is None
            if found is None or found.state != SolveState.FINISHED:
                check_place(connection, asked.token_id, asked.limits, new_solves=int(created))
            solve = (
                self._new_solve(connection, asked, key, request)
                if found is None
                else solve_record(found)
            )
        job = self._new_job(connection, asked, JobKind.PLAN, solve.id)
        return Submitted(job=job, solve=solve, created_solve=created, replayed=False)

    def _frontier(
        self, connection: Connection, asked: _Asked, points: Sequence[tuple[int, bytes, bytes]]
    ) -> SubmittedFrontier:
        replayed = _replayed(connection, asked, JobKind.FRONTIER)
        if replayed is not None:
            known = {id_: _solve(connection, id_) for id_ in replayed.solve_ids}
            return SubmittedFrontier(job=replayed, solves=known, created_solves=(), replayed=True)
        self._database.queue_lock(connection)
        by_key: dict[bytes, SolveRecord] = {}
        requests = {key: request for _, key, request in points}
        # One order for all, so that two frontiers do not wait for each other's rows.
        for key in sorted(requests):
            found = connection.execute(_JOIN, {"tenant_": asked.tenant, "key_": key}).first()
            if found is not None:
                by_key[key] = solve_record(found)
        missing = [key for key in requests if key not in by_key]
        if missing or any(solve.state in ACTIVE for solve in by_key.values()):
            check_place(connection, asked.token_id, asked.limits, new_solves=len(missing))
        for key in missing:
            by_key[key] = self._new_solve(connection, asked, key, requests[key])
        records = tuple(
            PointRecord(ram_bytes=ram_bytes, solve_id=by_key[key].id)
            for ram_bytes, key, _ in points
        )
        job = self._new_job(connection, asked, JobKind.FRONTIER, None, records)
        return SubmittedFrontier(
            job=job,
            solves={solve.id: solve for solve in by_key.values()},
            created_solves=tuple(by_key[key].id for key in missing),
            replayed=False,
        )

    def _new_solve(
        self, connection: Connection, asked: _Asked, key: bytes, request: bytes
    ) -> SolveRecord:
        now, solve_id = self._clock(), self._new_id()
        row = connection.execute(
            _INSERT_SOLVE,
            {
                "id": solve_id,
                "tenant": asked.tenant,
                "key": key,
                "state": SolveState.QUEUED.value,
                "attempt": 0,
                "losses": 0,
                "created_at": now,
                "wall_seconds": asked.wall_seconds,
                "stop_requested": 0,
                "last_seq": 1,
                "log_bytes": 0,
                "input_bytes": len(request) + len(asked.warm_start or b""),
                "plan_bytes": 0,
            },
        ).one()
        connection.execute(
            _INSERT_INPUT,
            {"solve_id": solve_id, "request": request, "warm_start": asked.warm_start},
        )
        data = {"state": SolveState.QUEUED.value, "attempt": 0}
        add_event(connection, solve_id, 1, now, EventKind.STATE, data)
        return solve_record(row)

    def _new_job(
        self,
        connection: Connection,
        asked: _Asked,
        kind: JobKind,
        solve_id: str | None,
        points: tuple[PointRecord, ...] = (),
    ) -> JobRecord:
        now = self._clock()
        key, digest = asked.idempotency or (None, None)
        connection.execute(
            _INSERT_JOB,
            {
                "id": asked.job_id,
                "kind": kind.value,
                "token_id": asked.token_id,
                "tenant": asked.tenant,
                "created_at": now,
                "solve_id": solve_id,
                "idempotency_key": key,
                "idempotency_digest": digest,
            },
        )
        if points:
            connection.execute(
                insert(JOB_POINTS),
                [
                    {
                        "job_id": asked.job_id,
                        "position": position,
                        "ram_bytes": point.ram_bytes,
                        "solve_id": point.solve_id,
                    }
                    for position, point in enumerate(points)
                ],
            )
        return JobRecord(
            id=asked.job_id,
            kind=kind,
            token_id=asked.token_id,
            tenant=asked.tenant,
            created_at=now,
            solve_id=solve_id,
            left_at=None,
            points=points,
        )


def _replayed(connection: Connection, asked: _Asked, kind: JobKind) -> JobRecord | None:
    if asked.idempotency is None:
        return None
    key, digest = asked.idempotency
    row = connection.execute(_REPLAYED, {"token_": asked.token_id, "key_": key}).first()
    if row is None:
        return None
    if row.idempotency_digest != digest or row.kind != kind:
        raise ServiceError(
            "This Idempotency-Key was used with another request before.",
            code="idempotency_conflict",
            hint="Use a new key for a new request, and the same body for a retry.",
        )
    return job_record(row, job_points(connection, [row.id]).get(row.id, ()))


def _solve(connection: Connection, solve_id: str) -> SolveRecord:
    return solve_record(connection.execute(_BY_ID, {"id_": solve_id}).one())


_FIND = select(*SOLVE_COLUMNS).where(
    SOLVES.c.tenant == bindparam("tenant_"), SOLVES.c.key == bindparam("key_")
)
# Until the commit nobody may stop this solve because it has no job: it is about to have one.
_JOIN = _FIND.with_for_update(read=True, key_share=True)
_BY_ID = select(*SOLVE_COLUMNS).where(SOLVES.c.id == bindparam("id_"))
_REPLAYED = select(*JOB_COLUMNS, JOBS.c.idempotency_digest).where(
    JOBS.c.token_id == bindparam("token_"), JOBS.c.idempotency_key == bindparam("key_")
)
_INSERT_SOLVE = insert(SOLVES).returning(*SOLVE_COLUMNS)
_INSERT_INPUT = insert(SOLVE_INPUTS)
_INSERT_JOB = insert(JOBS)
