"""Solves as they are read: by the routes, by the poller that wakes waiters, by executors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Row, bindparam, func, select

from poet_core.errors import ServiceError
from poet_service.database.part import Part
from poet_service.database.rows import SOLVE_COLUMNS, solve_record
from poet_service.database.tables import SOLVE_INPUTS, SOLVE_PLANS, SOLVES
from poet_service.jobs.records import SolveRecord
from poet_service.jobs.states import SolveState

# Below every database's limit of parameters in a statement.
_IDS_AT_ONCE = 500


class Solves(Part):
    """The part of the Store that reads solves."""

    def solve(self, solve_id: str) -> SolveRecord | None:
        """The solve, or None where it is unknown or was erased."""
        row = self._database.read(
            lambda connection: connection.execute(_SOLVE, {"solve_": solve_id}).first()
        )
        return None if row is None else solve_record(row)

    def solves(self, ids: Iterable[str]) -> dict[str, SolveRecord]:
        """Those of `ids` that exist, by id."""
        wanted = list(dict.fromkeys(ids))
        if not wanted:
            return {}
        rows = self._database.read(lambda connection: _by_ids(connection, wanted))
        return {row.id: solve_record(row) for row in rows}

    def changed(self, since: Mapping[str, int]) -> dict[str, SolveRecord]:
        """Of the solves in `since`, those whose last event is newer than the number beside it."""
        if not since:
            return {}

        def work(connection: Connection) -> list[Row[*tuple[Any, ...]]]:
            newer = [
                row.id
                for ids in _chunks(list(since))
                for row in connection.execute(_LAST_SEQS, {"ids_": ids})
                if row.last_seq > since[row.id]
            ]
            return _by_ids(connection, newer)

        return {row.id: solve_record(row) for row in self._database.read(work)}

    def find_solve(self, tenant: str, key: bytes) -> SolveRecord | None:
        """The solve that a request with this key would join."""
        row = self._database.read(
            lambda connection: connection.execute(_BY_KEY, {"tenant_": tenant, "key_": key}).first()
        )
        return None if row is None else solve_record(row)

    def request(self, solve_id: str) -> bytes:
        """The canonical request. Raises ServiceError (`solve_unknown`)."""
        data = self._blob(_REQUEST, solve_id)
        if data is None:
            raise ServiceError(
                "The request of this solve is not stored any more.",
                code="solve_unknown",
                hint="It was erased; post it again.",
            )
        return data

    def warm_start(self, solve_id: str) -> bytes | None:
        """The plan that the client gave to begin from."""
        return self._blob(_WARM_START, solve_id)

    def plan(self, solve_id: str) -> bytes | None:
        """The plan document: the last one, or the best so far."""
        return self._blob(_PLAN, solve_id)

    def queued(self, limit: int) -> list[str]:
        """Ids of solves that wait for a worker, the oldest first."""
        return self._database.read(
            lambda connection: list(connection.execute(_QUEUED, {"limit_": limit}).scalars())
        )

    def running(self) -> list[SolveRecord]:
        """Solves that a worker has claimed, the oldest first."""
        rows = self._database.read(lambda connection: connection.execute(_RUNNING).all())
        return [solve_record(row) for row in rows]

    def counts(self) -> dict[SolveState, int]:
        """How many solves are in each state, with a number for every state."""
        rows = self._database.read(lambda connection: connection.execute(_COUNTS).all())
        return dict.fromkeys(SolveState, 0) | {SolveState(state): int(n) for state, n in rows}

    def _blob(self, statement: Any, solve_id: str) -> bytes | None:
        data = self._database.read(
            lambda connection: connection.execute(statement, {"solve_": solve_id}).scalar()
        )
        return None if data is None else bytes(data)


def _by_ids(connection: Connection, ids: Sequence[str]) -> list[Row[*tuple[Any, ...]]]:
    return [row for chunk in _chunks(ids) for row in connection.execute(_SOLVES, {"ids_": chunk})]


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[start : start + _IDS_AT_ONCE]


def _of_solve(column: Column[Any]) -> Any:
    return select(column).where(column.table.c.solve_id == bindparam("solve_"))


_ONE_OF = SOLVES.c.id.in_(bindparam("ids_", expanding=True))
_SOLVE = select(*SOLVE_COLUMNS).where(SOLVES.c.id == bindparam("solve_"))
_SOLVES = select(*SOLVE_COLUMNS).where(_ONE_OF)
_LAST_SEQS = select(SOLVES.c.id, SOLVES.c.last_seq).where(_ONE_OF)
_BY_KEY = select(*SOLVE_COLUMNS).where(
    SOLVES.c.tenant == bindparam("tenant_"), SOLVES.c.key == bindparam("key_")
)
_REQUEST = _of_solve(SOLVE_INPUTS.c.request)
_WARM_START = _of_solve(SOLVE_INPUTS.c.warm_start)
_PLAN = _of_solve(SOLVE_PLANS.c.plan)
_QUEUED = (
    select(SOLVES.c.id)
    .where(SOLVES.c.state == SolveState.QUEUED.value)
    .order_by(SOLVES.c.number)
    .limit(bindparam("limit_"))
)
_RUNNING = (
    select(*SOLVE_COLUMNS)
    .where(SOLVES.c.state == SolveState.RUNNING.value)
    .order_by(SOLVES.c.number)
)
_COUNTS = select(SOLVES.c.state, func.count()).group_by(SOLVES.c.state)
