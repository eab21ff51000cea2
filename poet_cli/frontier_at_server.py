"""A frontier from a service: every plan judged here, kept in the same store, shown in the same way.

Ctrl-C asks the server to stop; what is finished is kept. A second one leaves at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from poet_cli.output import say
from poet_cli.server_options import ServerChoice
from poet_core.errors import BudgetError, PoetError

if TYPE_CHECKING:
    from poet_client import FrontierJob, PlannedPoint
    from poet_core.plan_request import PlanRequest
    from poet_solvers.frontier import Frontier
    from poet_solvers.frontier_points import FrontierPoint
    from poet_solvers.frontier_store import FrontierStore

_PLANNER = "a planning service"
_STOPPING = "Stopping; what is finished is kept … (Ctrl-C again leaves)"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSweep:
    """What is asked: the budgets, loosest first, each within the request's seconds."""

    request: PlanRequest
    budgets: tuple[int, ...]
    store: Path
    resume: bool


def frontier_at(
    server: ServerChoice, sweep: ServerSweep, tell: Callable[[str], None]
) -> tuple[Frontier, bool] | None:
    """The frontier, and whether Ctrl-C cut it short; None: it cannot be had there, and planning here
    is wanted instead. Raises what `PlannerClient.frontier` raises and UsageError of the store."""
    from poet_client.frontier_flows import sweep_of
    from poet_client.judging import with_figures
    from poet_core.bounds import ram_floor
    from poet_solvers.frontier import Frontier
    from poet_solvers.frontier_points import everything_kept, monotone
    from poet_solvers.frontier_store import FrontierStore

    began = time.monotonic()
    problem = with_figures(sweep.request).problem()
    store = FrontierStore(sweep.store, problem, _PLANNER)
    store.check()
    points = _begin(store, sweep)
    asked = sweep_of(with_figures(sweep.request), sweep.budgets)
    points |= {refused.ram_bytes: _point(refused) for refused in asked.refused}
    with server.client() as client:
        left = [budget for budget in asked.ram_bytes if budget not in points]
        try:
            job = client.submit_frontier(sweep.request, left) if left else None
            interrupted = job is not None and _collect(job, store, sweep, points, tell)
        except PoetError as error:
            if server.falls_back(error):
                return None
            raise
    found = Frontier(
        problem=problem,
        points=monotone(problem, [points[budget] for budget in sweep.budgets]),
        keep=everything_kept(problem),
        floor=ram_floor(problem.graph, problem.budget, paging=problem.allowed.page),
        warnings=tuple(store.warnings),
        cancelled=interrupted,
        wall_seconds=time.monotonic() - began,
    )
    return found, interrupted


def _begin(store: FrontierStore, sweep: ServerSweep) -> dict[int, FrontierPoint]:
    """The points that the store has already."""
    from poet_solvers.frontier_points import FrontierPoint, PointEnding

    if not sweep.resume:
        store.clear()
        return {}
    seconds = sweep.request.wall_seconds
    return {
        budget: FrontierPoint(
            ram_bytes=budget, ending=PointEnding.PLANNED, plan=known.plan, resumed=True
        )
        for budget, known in store.load().items()
        if budget in sweep.budgets and (known.settled or known.limit_seconds >= seconds)
    }


def _collect(
    job: FrontierJob,
    store: FrontierStore,
    sweep: ServerSweep,
    points: dict[int, FrontierPoint],
    tell: Callable[[str], None],
) -> bool:
    """Fills `points`; whether Ctrl-C came meanwhile."""
    from poet_cli.frontier_report import progress_line
    from poet_solvers.frontier_store import StoredPoint

    def heard(found: PlannedPoint) -> None:
        if found.ram_bytes in points:
            return
        points[found.ram_bytes] = _point(found)
        tell(progress_line(len(points), len(sweep.budgets), points[found.ram_bytes]))
        if found.plan is not None:
            seconds = sweep.request.wall_seconds
            store.add(StoredPoint(plan=found.plan, limit_seconds=seconds, settled=False))

    try:
        job.wait(on_point=heard)
    except KeyboardInterrupt:
        say(_STOPPING)
        job.stop()
        job.wait(on_point=heard)
        return True
    except PoetError:
        with contextlib.suppress(PoetError):
            job.discard()
        raise
    return False


def _point(found: PlannedPoint) -> FrontierPoint:
    from poet_solvers.frontier_points import FrontierPoint, PointEnding

    if found.plan is not None:
        return FrontierPoint(ram_bytes=found.ram_bytes, ending=PointEnding.PLANNED, plan=found.plan)
    error = found.error or PoetError("Nothing was said of this budget.")
    ending = PointEnding.UNDECIDED
    if isinstance(error, BudgetError):
        ending = PointEnding.IMPOSSIBLE
    elif error.code == "job_stopped":
        ending = PointEnding.NOT_TRIED
    return FrontierPoint(
        ram_bytes=found.ram_bytes, ending=ending, error=error.message, error_code=error.code
    )
