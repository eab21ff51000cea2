"""Admission: whether there is a place for another job, and when to ask again where there is none.

Limits count where work is added: solves that wait (of everybody), jobs under way (of one token).
Who is refused is told to come back after the time in which a share of what stands before it will be
worked off: by as many as work now, each solve as long as the last ones were.
"""

from __future__ import annotations

import math

from sqlalchemy import Connection, bindparam, distinct, func, select

from poet_core.errors import ServiceError
from poet_service.database.tables import JOB_POINTS, JOBS, SOLVES
from poet_service.jobs.records import QueueLimits
from poet_service.jobs.states import ACTIVE, SolveState

# What a client is told to wait for, of everything that waits; others wait for places too.
_SHARE = 1 / 8
# As long as poet_client heeds; and who comes back so late has not given up.
_MOST_RETRY_AFTER_SECONDS = 60
# As long as the mean of so many that finished last.
_LAST = 16


def check_place(
    connection: Connection, token_id: int, limits: QueueLimits, *, new_solves: int
) -> None:
    """Raises ServiceError (`too_many_jobs`, `queue_full`) where a job is one too many."""
    active = sum(
        connection.execute(statement, {"token_": token_id}).scalar_one()
        for statement in (_ACTIVE_PLANS, _ACTIVE_FRONTIERS)
    )
    if active >= limits.active_jobs_of_token:
        seconds = _retry_after_seconds(connection, active, limits)
        raise ServiceError(
            f"This token has {active} active jobs, and may have {limits.active_jobs_of_token}.",
            code="too_many_jobs",
            hint=f"Wait for one to end or stop one. {_hint(seconds)}",
            details={
                "retry_after_seconds": seconds,
                "active_jobs": active,
                "limit": limits.active_jobs_of_token,
            },
        )
    if not new_solves:
        return
    queued = connection.execute(_QUEUED).scalar_one()
    if queued + new_solves > limits.queue_depth:
        seconds = _retry_after_seconds(connection, queued, limits)
        raise ServiceError(
            f"The queue has {queued} of {limits.queue_depth} places taken, and this request needs "
            f"{new_solves}.",
            code="queue_full",
            hint=_hint(seconds),
            details={
                "retry_after_seconds": seconds,
                "queued": queued,
                "limit": limits.queue_depth,
            },
        )


def _retry_after_seconds(connection: Connection, waiting: int, limits: QueueLimits) -> int:
    """At least what the settings say, which is also the answer where nothing has finished yet."""
    took: list[float] = [
        max(0.0, solve.finished_at - solve.started_at)  # a clock may have been put back
        for solve in connection.execute(_LAST_SOLVES)
        if solve.started_at is not None
    ]
    if not took:
        return limits.retry_after_seconds
    running = max(1, connection.execute(_RUNNING).scalar_one())
    seconds = _SHARE * waiting * sum(took) / len(took) / running
    at_most = math.ceil(min(seconds, _MOST_RETRY_AFTER_SECONDS))
    return max(limits.retry_after_seconds, at_most)


def _hint(seconds: int) -> str:
    return f"Try again in {seconds} seconds, or plan locally."


_LAST_SOLVES = (
    select(SOLVES.c.started_at, SOLVES.c.finished_at)
    .where(SOLVES.c.state == SolveState.FINISHED.value)
    .order_by(SOLVES.c.number.desc())
    .limit(_LAST)
)
_RUNNING = select(func.count()).where(SOLVES.c.state == SolveState.RUNNING.value)
_QUEUED = select(func.count()).where(SOLVES.c.state == SolveState.QUEUED.value)
_ACTIVE = SOLVES.c.state.in_(sorted(ACTIVE))
# `+ 0` keeps SQLite from walking all jobs that the token ever had: active solves are few.
_OF_TOKEN = (JOBS.c.token_id + 0 == bindparam("token_"), JOBS.c.left_at.is_(None))
_ACTIVE_PLANS = (
    select(func.count())
    .select_from(SOLVES.join(JOBS, JOBS.c.solve_id == SOLVES.c.id))
    .where(_ACTIVE, *_OF_TOKEN)
)
_ACTIVE_FRONTIERS = (
    select(func.count(distinct(JOBS.c.id)))
    .select_from(
        SOLVES.join(JOB_POINTS, JOB_POINTS.c.solve_id == SOLVES.c.id).join(
            JOBS, JOBS.c.id == JOB_POINTS.c.job_id
        )
    )
    .where(_ACTIVE, *_OF_TOKEN)
)
