"""How a frontier job looks: its points, each with the best plan known for its budget.

A plan for less RAM is a plan for more, and a bound for more RAM is a bound for less
(poet_solvers.frontier_points.monotone): the view says the best of all points for each, as far as the
solves have got. Every plan in it was judged here. Runs in a work thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.errors import ServiceError
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_to_document
from poet_core.verify import verify
from poet_service.database.store import Store
from poet_service.jobs.judged import JudgedPlans, read_stored_request
from poet_service.jobs.records import JobKind, JobRecord, SolveRecord
from poet_service.jobs.remembered import Remembered
from poet_service.jobs.states import SolveState
from poet_service.jobs.views import frontier_path, frontier_state
from poet_service.problems import error_document, json_bytes

if TYPE_CHECKING:
    from poet_solvers.frontier_points import FrontierPoint

# Problems of frontiers that are being looked at; a graph in memory is several times its text.
_PROBLEMS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What all points of a frontier have in common."""

    problem: Problem
    keep_everything_bytes: int
    floor_bytes: int


class FrontierViews:
    """Views of frontier jobs. Every method blocks."""

    def __init__(self, store: Store, judged: JudgedPlans) -> None:
        self._store, self._judged = store, judged
        self._bases: Remembered[str, _Base] = Remembered(most=_PROBLEMS)

    def view(self, job: JobRecord, solves: Mapping[str, SolveRecord]) -> bytes:
        """The job as JSON; the plans are at their own addresses."""
        base = self._base(job)
        points, errors = self._points(job, solves, base)
        path = frontier_path(job.id)
        return json_bytes(
            {
                "id": job.id,
                "kind": str(JobKind.FRONTIER),
                "state": str(frontier_state(job, solves.values())),
                "created_at": job.created_at,
                "objective": str(base.problem.objective),
                "keep_everything_bytes": base.keep_everything_bytes,
                "floor_bytes": base.floor_bytes,
                "points": [
                    _point_document(path, job, point, solve, errors.get(solve.id))
                    for point, solve in points
                ],
                "links": {"self": path, "events": f"{path}/events"},
            }
        )

    def plan(
        self, job: JobRecord, solves: Mapping[str, SolveRecord], ram_bytes: int
    ) -> bytes | None:
        """The plan document of a point: its own, or a tighter one's where that costs less."""
        base = self._base(job)
        points, _ = self._points(job, solves, base)
        plan = next((point.plan for point, _ in points if point.ram_bytes == ram_bytes), None)
        if plan is None:
            return None
        verify(base.problem.graph, plan)  # its budget is another than the one it was judged for
        return json_bytes(plan_to_document(plan))

    def _base(self, job: JobRecord) -> _Base:
        known = self._bases.get(job.id)
        if known is not None:
            return known
        problem = read_stored_request(self._store.request(job.solve_ids[0])).stated_problem()
        budget = problem.budget
        keep = judge_keep_everything(
            problem.graph,
            problem.costs,
            reserved_bytes=budget.reserved_bytes,
            alignment_bytes=budget.alignment_bytes,
        )
        floor = ram_floor(problem.graph, budget, paging=problem.allowed.page)
        base = _Base(
            problem=problem,
            keep_everything_bytes=keep.peak_bytes,
            floor_bytes=floor.floor_bytes,
        )
        self._bases.put(job.id, base)
        return base

    def _points(
        self, job: JobRecord, solves: Mapping[str, SolveRecord], base: _Base
    ) -> tuple[list[tuple[FrontierPoint, SolveRecord]], dict[str, Any]]:
        from poet_solvers.frontier_points import FrontierPoint, PointEnding, monotone

        found, errors = [], {}
        for point in job.points:
            plan: Plan | None = None
            try:
                plan = self._judged.plan_of(solves[point.solve_id])
            except ServiceError as error:
                if error.code != "stored_plan_invalid":
                    raise
                errors[point.solve_id] = error_document(error)
            ending = PointEnding.UNDECIDED if plan is None else PointEnding.PLANNED
            found.append(FrontierPoint(ram_bytes=point.ram_bytes, ending=ending, plan=plan))
        solve_of = {point.ram_bytes: solves[point.solve_id] for point in job.points}
        points = monotone(base.problem, found)
        return [(point, solve_of[point.ram_bytes]) for point in points], errors


def _point_document(
    path: str, job: JobRecord, point: FrontierPoint, solve: SolveRecord, error: Any
) -> dict[str, Any]:
    plan, state = point.plan, solve.state
    if error is not None:
        state = SolveState.FAILED
    elif job.left_at is not None and not state.ended:
        state = SolveState.STOPPED
    document: dict[str, Any] = {
        "ram_bytes": point.ram_bytes,
        "state": str(state),
        "peak_bytes": None,
        "energy_joules": None,
        "step_seconds": None,
        "cost": None,
        "bound": None,
        "gap": None,
        "elapsed_seconds": solve.elapsed_seconds,
        "from_ram_bytes": point.from_ram_bytes,
        "error": error or solve.error,
        "links": {},
    }
    if plan is not None:
        document |= {
            "peak_bytes": plan.claims.peak_bytes,
            "energy_joules": plan.claims.energy_joules,
            "step_seconds": plan.claims.step_seconds,
            "cost": plan.objective_value,
            "bound": None if plan.bound is None else plan.bound.value,
            "gap": plan.gap,
            "links": {"plan": f"{path}/plans/{point.ram_bytes}"},
        }
    return document
