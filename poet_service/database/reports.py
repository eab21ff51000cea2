"""Reports of a running solve: that its worker lives, its best plan so far, its bound.

Each is written only while the attempt has the solve, and each but the heartbeat is an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, insert, update

from poet_service.database.logbook import FENCED, add_event
from poet_service.database.part import Part
from poet_service.database.rows import finite
from poet_service.database.tables import SOLVE_PLANS, SOLVES
from poet_service.jobs.records import EventKind

MOST_NAME = 200  # characters of a worker's or a planner's name


class Reports(Part):
    """The part of the Store that a worker tells how far it is."""

    def heartbeat(self, solve_id: str, attempt: int) -> bool:
        """The worker of this attempt still works."""
        values = {"solve_": solve_id, "attempt_": attempt, "now_": self._clock()}
        return self._database.write(
            lambda connection: connection.execute(_HEARTBEAT, values).rowcount == 1
        )

    def incumbent(
        self,
        solve_id: str,
        attempt: int,
        plan: bytes,
        cost: float | None,
        bound: float | None,
        gap: float | None,
        elapsed: float | None,
        *,
        by: str = "",
    ) -> bool:
        """The best plan so far of a running solve, judged by the caller; `by` names who found it."""
        figures = figures_of(cost, bound, gap, elapsed)

        def work(connection: Connection) -> bool:
            values = {"solve_": solve_id, "attempt_": attempt} | _bound_values(figures)
            seq = connection.execute(_SET_INCUMBENT, values | {"bytes_": len(plan)}).scalar()
            if seq is None:
                return False
            store_plan(connection, solve_id, plan)
            data = figures | {"by": by[:MOST_NAME]}
            add_event(connection, solve_id, seq, self._clock(), EventKind.INCUMBENT, data)
            return True

        return self._database.write(work)

    def bound(
        self,
        solve_id: str,
        attempt: int,
        bound: float | None,
        gap: float | None,
        elapsed: float | None,
    ) -> bool:
        """A better bound of a running solve."""
        data = {"bound": finite(bound), "gap": finite(gap), "elapsed_seconds": finite(elapsed)}

        def work(connection: Connection) -> bool:
            values = {"solve_": solve_id, "attempt_": attempt} | _bound_values(data)
            seq = connection.execute(_SET_BOUND, values).scalar()
            if seq is None:
                return False
            add_event(connection, solve_id, seq, self._clock(), EventKind.BOUND, data)
            return True

        return self._database.write(work)


def store_plan(connection: Connection, solve_id: str, plan: bytes) -> None:
    """The plan of a solve is this one now."""
    if not connection.execute(_UPDATE_PLAN, {"solve_": solve_id, "plan_": plan}).rowcount:
        connection.execute(_INSERT_PLAN, {"solve_id": solve_id, "plan": plan})


def figures_of(
    cost: float | None, bound: float | None, gap: float | None, elapsed: float | None
) -> dict[str, Any]:
    """The four figures by their names, as columns and events have them."""
    return {
        "cost": finite(cost),
        "bound": finite(bound),
        "gap": finite(gap),
        "elapsed_seconds": finite(elapsed),
    }


def _bound_values(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}_": value for name, value in figures.items()}


_HEARTBEAT = update(SOLVES).where(*FENCED).values(heartbeat_at=bindparam("now_"))
_SET_INCUMBENT = (
    update(SOLVES)
    .where(*FENCED)
    .values(
        cost=bindparam("cost_"),
        bound=bindparam("bound_"),
        gap=bindparam("gap_"),
        elapsed_seconds=bindparam("elapsed_seconds_"),
        plan_bytes=bindparam("bytes_"),
        last_seq=SOLVES.c.last_seq + 1,
    )
    .returning(SOLVES.c.last_seq)
)
_SET_BOUND = (
    update(SOLVES)
    .where(*FENCED)
    .values(
        bound=bindparam("bound_"),
        gap=bindparam("gap_"),
        elapsed_seconds=bindparam("elapsed_seconds_"),
        last_seq=SOLVES.c.last_seq + 1,
    )
    .returning(SOLVES.c.last_seq)
)
_UPDATE_PLAN = (
    update(SOLVE_PLANS)
    .where(SOLVE_PLANS.c.solve_id == bindparam("solve_"))
    .values(plan=bindparam("plan_"))
)
_INSERT_PLAN = insert(SOLVE_PLANS)
