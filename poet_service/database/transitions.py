"""Transitions: the only statements that change the state of a solve.

Each is a compare-and-set on (id, state, attempt): where the solve is no longer there nothing
happens and the answer is False or None. Each writes its event in the same transaction; an end
(finished, failed, stopped) is an event of the kind `done`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from poet_service.database.logbook import FENCED, add_event
from poet_service.database.part import Part
from poet_service.database.reports import MOST_NAME, figures_of, store_plan
from poet_service.database.rows import SOLVE_COLUMNS, error_text, solve_record
from poet_service.database.tables import SOLVE_PLANS, SOLVES
from poet_service.jobs.records import EventKind, SolveRecord
from poet_service.jobs.states import MOST_ATTEMPTS, SolveState

_LOST = {
    "code": "worker_lost",
    "kind": "service",
    "detail": f"The process that worked on this solve was lost {MOST_ATTEMPTS} times.",
    "hint": "Ask again; where it happens again, plan a smaller graph or give workers more memory.",
}
_STORED_PLAN_INVALID = {
    "code": "stored_plan_invalid",
    "kind": "service",
    "detail": "The stored plan was damaged: the judge refused it when it was read back.",
    "hint": "Post the request again; it will be solved anew.",
}


class Transitions(Part):
    """The part of the Store that moves solves."""

    def claim(self, solve_id: str, worker: str) -> SolveRecord | None:
        """QUEUED -> RUNNING under a new attempt; None where another was faster."""

        def work(connection: Connection) -> SolveRecord | None:
            now = self._clock()
            row = connection.execute(
                _CLAIM, {"solve_": solve_id, "worker_": worker[:MOST_NAME], "now_": now}
            ).first()
            if row is None:
                return None
            solve = solve_record(row)
            data = {"state": solve.state.value, "attempt": solve.attempt}
            add_event(connection, solve_id, solve.last_seq, now, EventKind.STATE, data)
            return solve

        return self._database.write(work)

    def finish(
        self,
        solve_id: str,
        attempt: int,
        plan: bytes,
        cost: float | None,
        bound: float | None,
        gap: float | None,
        elapsed: float | None,
    ) -> bool:
        """RUNNING -> FINISHED with a plan that the judge accepted."""
        figures = figures_of(cost, bound, gap, elapsed)

        def work(connection: Connection) -> bool:
            row = _end(
                connection,
                solve_id,
                attempt,
                SolveState.FINISHED,
                self._clock(),
                plan_bytes=len(plan),
                **figures,
            )
            if row is not None:
                store_plan(connection, solve_id, plan)
            return row is not None

        return self._database.write(work)

    def fail(self, solve_id: str, attempt: int, error: Mapping[str, Any]) -> bool:
        """RUNNING -> FAILED. The key is free again: the next post of the request solves anew."""

        def work(connection: Connection) -> bool:
            now = self._clock()
            return _fail(connection, solve_id, attempt, SolveState.RUNNING, error, now)

        return self._database.write(work)

    def stopped(self, solve_id: str, attempt: int) -> bool:
        """RUNNING -> STOPPED with the incumbent, if there is one."""

        def work(connection: Connection) -> bool:
            now = self._clock()
            row = _end(connection, solve_id, attempt, SolveState.STOPPED, now, key=None)
            return row is not None

        return self._database.write(work)

    def lost(self, solve_id: str, attempt: int) -> SolveState | None:
        """The worker of this attempt is gone: queued again the first time, failed after that,
        stopped where nobody waits for it any more. None where the attempt had ended already."""

        def work(connection: Connection) -> SolveState | None:
            now = self._clock()
            row = connection.execute(_STANDING, {"solve_": solve_id, "attempt_": attempt}).first()
            if row is None:
                return None
            if row.stop_requested:
                _end(connection, solve_id, attempt, SolveState.STOPPED, now, key=None)
                return SolveState.STOPPED
            if row.losses + 1 >= MOST_ATTEMPTS:
                _fail(connection, solve_id, attempt, SolveState.RUNNING, _LOST, now)
                return SolveState.FAILED
            seq = connection.execute(
                _REQUEUE, {"solve_": solve_id, "attempt_": attempt}
            ).scalar_one()
            data = {
                "state": SolveState.QUEUED.value,
                "attempt": attempt,
                "reason": "worker_lost",
            }
            add_event(connection, solve_id, seq, now, EventKind.STATE, data)
            return SolveState.QUEUED

        return self._database.write(work)

    def release(self, solve_id: str, attempt: int) -> bool:
        """The worker of this attempt leaves in order: RUNNING -> QUEUED, which is no loss, or STOPPED
        where nobody waits. It may write nothing after this."""

        def work(connection: Connection) -> bool:
            now = self._clock()
            values = {"solve_": solve_id, "attempt_": attempt}
            row = connection.execute(_STANDING, values).first()
            if row is None:
                return False
            if row.stop_requested:
                _end(connection, solve_id, attempt, SolveState.STOPPED, now, key=None)
                return True
            seq = connection.execute(_RELEASE, values).scalar_one()
            data = {"state": SolveState.QUEUED.value, "attempt": attempt, "reason": "worker_left"}
            add_event(connection, solve_id, seq, now, EventKind.STATE, data)
            return True

        return self._database.write(work)

    def corrupt(self, solve_id: str) -> None:
        """FINISHED -> FAILED because the stored plan is none any more; the plan is erased and the
        key is free again. Nothing happens where the solve is not finished."""

        def work(connection: Connection) -> None:
            attempt = connection.execute(
                select(SOLVES.c.attempt).where(SOLVES.c.id == solve_id).with_for_update()
            ).scalar()
            if attempt is not None and _fail(
                connection,
                solve_id,
                attempt,
                SolveState.FINISHED,
                _STORED_PLAN_INVALID,
                self._clock(),
                plan_bytes=0,
            ):
                connection.execute(delete(SOLVE_PLANS).where(SOLVE_PLANS.c.solve_id == solve_id))

        self._database.write(work)


def stop_unclaimed(connection: Connection, solve_id: str, attempt: int, now: float) -> bool:
    """QUEUED -> STOPPED: its last job left before a worker came."""
    row = _end(
        connection,
        solve_id,
        attempt,
        SolveState.STOPPED,
        now,
        from_state=SolveState.QUEUED,
        key=None,
    )
    return row is not None


def _end(
    connection: Connection,
    solve_id: str,
    attempt: int,
    to: SolveState,
    now: float,
    *,
    from_state: SolveState = SolveState.RUNNING,
    error: Mapping[str, Any] | None = None,
    **values: Any,
) -> SolveRecord | None:
    if error is not None:
        values["error"] = error_text(error)
    statement = (
        update(SOLVES)
        .where(
            SOLVES.c.id == solve_id,
            SOLVES.c.state == from_state.value,
            SOLVES.c.attempt == attempt,
        )
        .values(state=to.value, finished_at=now, last_seq=SOLVES.c.last_seq + 1, **values)
        .returning(*SOLVE_COLUMNS)
    )
    row = connection.execute(statement).first()
    if row is None:
        return None
    solve = solve_record(row)
    data: dict[str, Any] = {
        "state": to.value,
        "attempt": attempt,
        "cost": solve.cost,
        "bound": solve.bound,
        "gap": solve.gap,
        "elapsed_seconds": solve.elapsed_seconds,
        "has_plan": solve.has_plan,
    }
    if error is not None:
        data["error"] = dict(solve.error or {})
    add_event(connection, solve_id, solve.last_seq, now, EventKind.DONE, data)
    return solve


def _fail(
    connection: Connection,
    solve_id: str,
    attempt: int,
    from_state: SolveState,
    error: Mapping[str, Any],
    now: float,
    **values: Any,
) -> bool:
    row = _end(
        connection,
        solve_id,
        attempt,
        SolveState.FAILED,
        now,
        from_state=from_state,
        error=error,
        key=None,
        **values,
    )
    return row is not None


_CLAIM = (
    update(SOLVES)
    .where(SOLVES.c.id == bindparam("solve_"), SOLVES.c.state == SolveState.QUEUED.value)
    .values(
        state=SolveState.RUNNING.value,
        attempt=SOLVES.c.attempt + 1,
        worker=bindparam("worker_"),
        started_at=bindparam("now_"),
        heartbeat_at=bindparam("now_"),
        last_seq=SOLVES.c.last_seq + 1,
    )
    .returning(*SOLVE_COLUMNS)
)
_STANDING = select(SOLVES.c.stop_requested, SOLVES.c.losses).where(*FENCED).with_for_update()
_BACK_IN_QUEUE = {
    SOLVES.c.state: SolveState.QUEUED.value,
    SOLVES.c.worker: None,
    SOLVES.c.started_at: None,
    SOLVES.c.heartbeat_at: None,
    SOLVES.c.last_seq: SOLVES.c.last_seq + 1,
}
_RELEASE = update(SOLVES).where(*FENCED).values(_BACK_IN_QUEUE).returning(SOLVES.c.last_seq)
_REQUEUE = (
    update(SOLVES)
    .where(*FENCED)
    .values(_BACK_IN_QUEUE | {SOLVES.c.losses: SOLVES.c.losses + 1})
    .returning(SOLVES.c.last_seq)
)
