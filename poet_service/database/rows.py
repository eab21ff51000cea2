"""Rows to records and back: every column list and every reading of a row is here.

What cannot be a record any more (a state that does not exist, text where a number was) is reported
as `database_corrupted` with the id, never as a crash of whoever asked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy import Row

from poet_core.documents import canonical_json
from poet_service.database.tables import JOBS, SOLVES, TOKENS
from poet_service.database.transactions import row_invalid
from poet_service.jobs.records import (
    EventKind,
    EventRecord,
    JobKind,
    JobRecord,
    PointRecord,
    SolveRecord,
    Standing,
    TokenRecord,
)
from poet_service.jobs.states import SolveState

_Record = TypeVar("_Record")

# An error document is a few sentences. One that is larger keeps its code and loses its details.
_MOST_ERROR_BYTES = 65_536

SOLVE_COLUMNS = tuple(
    column for column in SOLVES.columns if column.name not in {"number", "key", "input_bytes"}
)
JOB_COLUMNS = tuple(
    JOBS.c[name]
    for name in (
        "id",
        "kind",
        "token_id",
        "tenant",
        "created_at",
        "solve_id",
        "left_at",
        "left_cost",
        "left_bound",
        "left_gap",
        "left_elapsed_seconds",
    )
)
TOKEN_COLUMNS = tuple(column for column in TOKENS.columns if column.name != "digest")


def solve_record(row: Row[*tuple[Any, ...]]) -> SolveRecord:
    """A row of SOLVE_COLUMNS."""
    return _read("solve", row, _solve)


def job_record(
    row: Row[*tuple[Any, ...]], points: tuple[PointRecord, ...] = (), *, has_plan: bool = False
) -> JobRecord:
    """A row of JOB_COLUMNS. `has_plan`: a plan was kept when the job left."""
    return _read("job", row, lambda found: _job(found, points, has_plan))


def token_record(row: Row[*tuple[Any, ...]]) -> TokenRecord:
    """A row that begins with TOKEN_COLUMNS."""
    return _read("token", row, _token)


def event_record(row: Row[*tuple[Any, ...]]) -> EventRecord:
    """A row of (seq, at, kind, data)."""
    try:
        return EventRecord(
            seq=int(row[0]), at=float(row[1]), kind=EventKind(row[2]), data=_object(row[3])
        )
    except (TypeError, ValueError) as error:
        raise row_invalid("event", str(row[0])[:32]) from error


def json_text(document: Mapping[str, Any]) -> str:
    """A document as it is stored: ASCII, because PostgreSQL's text cannot hold every character."""
    return canonical_json(document).decode("ascii")


def error_text(error: Mapping[str, Any]) -> str:
    """An error document as it is stored: bounded, and JSON whatever a planner put in."""
    try:
        text = json_text(error)
    except (TypeError, ValueError):
        text = ""
    if text and len(text) <= _MOST_ERROR_BYTES:
        return text
    kept = {name: str(error.get(name, ""))[:2000] for name in ("code", "kind", "detail", "hint")}
    return json_text(kept)


def finite(value: float | None) -> float | None:
    """None where there is no number: JSON has no infinity."""
    return float(value) if value is not None and math.isfinite(value) else None


def _read(
    what: str, row: Row[*tuple[Any, ...]], read: Callable[[Row[*tuple[Any, ...]]], _Record]
) -> _Record:
    try:
        return read(row)
    except (TypeError, ValueError) as error:
        raise row_invalid(what, str(row.id)[:32]) from error


def _solve(row: Row[*tuple[Any, ...]]) -> SolveRecord:
    (
        id_, tenant, state, attempt, losses, worker, created_at, started_at, finished_at, heartbeat_at,
        wall_seconds, cost, bound, gap, elapsed_seconds, error, stop_requested, last_seq, log_bytes,
        plan_bytes,
    ) = row  # fmt: skip
    return SolveRecord(
        id=id_,
        tenant=tenant,
        state=SolveState(state),
        attempt=int(attempt),
        worker=worker,
        created_at=float(created_at),
        started_at=_number(started_at),
        finished_at=_number(finished_at),
        heartbeat_at=_number(heartbeat_at),
        wall_seconds=float(wall_seconds),
        cost=_number(cost),
        bound=_number(bound),
        gap=_number(gap),
        elapsed_seconds=_number(elapsed_seconds),
        plan_bytes=int(plan_bytes),
        error=None if error is None else _object(error),
        stop_requested=bool(stop_requested),
        last_seq=int(last_seq),
        log_bytes=int(log_bytes),
        losses=int(losses),
    )


def _job(row: Row[*tuple[Any, ...]], points: tuple[PointRecord, ...], has_plan: bool) -> JobRecord:
    id_, kind, token_id, tenant, created_at, solve_id, left_at, cost, bound, gap, elapsed = row[:11]
    standing = None
    if left_at is not None and solve_id is not None:
        standing = Standing(
            cost=_number(cost),
            bound=_number(bound),
            gap=_number(gap),
            elapsed_seconds=_number(elapsed),
            has_plan=has_plan,
        )
    return JobRecord(
        id=id_,
        kind=JobKind(kind),
        token_id=int(token_id),
        tenant=tenant,
        created_at=float(created_at),
        solve_id=solve_id,
        left_at=_number(left_at),
        standing=standing,
        points=points,
    )


def _token(row: Row[*tuple[Any, ...]]) -> TokenRecord:
    id_, name, tenant, scopes, most_active_jobs, created_at, revoked_at = row[:7]
    return TokenRecord(
        id=int(id_),
        name=name,
        tenant=tenant,
        scopes=frozenset(scopes.split()),
        most_active_jobs=None if most_active_jobs is None else int(most_active_jobs),
        created_at=float(created_at),
        revoked_at=_number(revoked_at),
    )


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _object(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise TypeError  # becomes `database_corrupted` above
    return document
