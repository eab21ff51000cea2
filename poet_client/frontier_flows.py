"""A frontier as one job on a server: many RAM budgets, partial results, every plan judged here.

A budget that no plan can meet is refused here and never asked. Invariant: a point carries a plan only
if the judge accepted it for that point's own budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from poet_client.job_flows import (
    FRONTIERS,
    JobPlace,
    Terms,
    breathe,
    look_at,
    post_job,
    say_goodbye,
    too_long,
    view_of,
)
from poet_client.judging import judged, limits_for
from poet_client.refusals import error_of, refusal
from poet_client.retrying import exchange
from poet_client.views import JobState, JobView, invalid, read_object
from poet_client.wire import Deadline, Emit, Flow, Request
from poet_core.documents import Limits, Node
from poet_core.errors import BudgetError, DocumentError, PoetError, ServiceError, UsageError
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest, request_to_document

MOST_POINTS = 1000
_VIEW_BYTES_OF_A_POINT = 4096
_POLL_SECONDS = 2.0
# A point that was stopped before it had a plan.
_NO_PLAN = frozenset({404, 409})


@dataclass(frozen=True, slots=True, kw_only=True)
class PointView:
    """A point as the server describes it."""

    ram_bytes: int
    state: JobState
    error: PoetError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierView:
    """A frontier as the server describes it."""

    job: JobView
    points: tuple[PointView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """What became of a budget: a judged plan, or the error that says why there is none."""

    ram_bytes: int
    plan: Plan | None = None
    error: PoetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The budgets that a server is asked for, and those that were refused here."""

    request: PlanRequest
    ram_bytes: tuple[int, ...]
    refused: tuple[PlannedPoint, ...]

    def for_budget(self, ram_bytes: int) -> PlanRequest:
        """What is asked within one of the budgets."""
        return replace(self.request, ram_bytes=ram_bytes)


def sweep_of(request: PlanRequest, ram_bytes: Sequence[int]) -> Sweep:
    """Budgets, loosest first, each once. `request`: with figures. Raises UsageError."""
    if not ram_bytes or min(ram_bytes) < 1 or len(set(ram_bytes)) > MOST_POINTS:
        raise UsageError(
            f"Expected 1 to {MOST_POINTS} RAM budgets of at least 1 byte.",
            code="points_invalid",
            hint="Name one or more.",
        )
    good, refused = [], []
    for budget in sorted(set(ram_bytes), reverse=True):
        try:
            replace(request, ram_bytes=budget).problem()
            good.append(budget)
        except BudgetError as error:
            refused.append(PlannedPoint(ram_bytes=budget, error=error))
    return Sweep(request=request, ram_bytes=tuple(good), refused=tuple(refused))


def submit_frontier(sweep: Sweep, key: str, terms: Terms, ends: Deadline) -> Flow[JobView]:
    """Ask for the plans of a sweep. Raises why none of its budgets can be met, where that is so."""
    if not sweep.ram_bytes and sweep.refused[0].error is not None:
        raise sweep.refused[0].error
    document = request_to_document(sweep.request)
    del document["budget"]["ram_bytes"]
    document["ram_bytes"] = list(sweep.ram_bytes)
    limits = _limits(len(sweep.ram_bytes))
    return (yield from post_job(FRONTIERS, document, key, terms, ends, limits))


def frontier_place(job_id: str, points: int = MOST_POINTS) -> JobPlace:
    """Where a frontier is."""
    return JobPlace(job_id=job_id, root=FRONTIERS, limits=_limits(points))


def _limits(points: int) -> Limits:
    most = 2**16 + points * _VIEW_BYTES_OF_A_POINT
    return Limits(document_bytes=most, depth=8, values=1000 + 100 * points)


def look_at_frontier(
    place: JobPlace, terms: Terms, ends: Deadline, wait_seconds: float = 0.0
) -> Flow[FrontierView]:
    """The frontier as it is now, or when it ends within `wait_seconds`."""
    document = yield from look_at(place, terms, ends, wait_seconds)
    return FrontierView(job=view_of(document, place), points=_points(document, place.limits))


def _points(document: dict[str, Any], limits: Limits) -> tuple[PointView, ...]:
    try:
        items = Node(document.get("points"), "$.points", limits).items(MOST_POINTS)
        return tuple(_point(item) for item in items)
    except DocumentError as error:
        raise invalid(error) from error


def _point(node: Node) -> PointView:
    value = node.value if isinstance(node.value, dict) else {}
    state = JobState(Node(value.get("state"), f"{node.path}.state").choice(frozenset(JobState)))
    error = value.get("error")
    return PointView(
        ram_bytes=Node(value.get("ram_bytes"), f"{node.path}.ram_bytes").integer(least=1),
        state=state,
        error=error_of(error) if error is not None or state is JobState.FAILED else None,
    )


def found(place: JobPlace, sweep: Sweep, terms: Terms, ends: Deadline) -> Flow[None]:
    """Emits every point once it has ended. Raises ServiceError (`server_timeout`) where that takes
    too long."""
    for refused in sweep.refused:
        yield Emit(refused)
    left = set(sweep.ram_bytes)
    while True:
        began = ends.left()
        view = yield from look_at_frontier(place, terms, ends, _POLL_SECONDS)
        for told in view.points:
            point = told
            if view.job.state.ended and not told.state.ended:
                point = replace(told, state=JobState.STOPPED)
            if point.ram_bytes in left and point.state.ended:
                left.remove(point.ram_bytes)
                yield Emit((yield from _planned(place, point, sweep, terms, ends)))
        if not left:
            return
        if view.job.state.ended:
            break
        if ends.left() <= 0:
            raise too_long(view.job.state, ends)
        yield from breathe(began - ends.left(), terms, ends)
    for ram_bytes in sorted(left, reverse=True):
        error = ServiceError("The server forgot this budget.", code="server_answer_invalid")
        yield Emit(PlannedPoint(ram_bytes=ram_bytes, error=error))


def _planned(
    place: JobPlace, point: PointView, sweep: Sweep, terms: Terms, ends: Deadline
) -> Flow[PlannedPoint]:
    """The point with its plan, judged for its own budget."""
    ram_bytes, limits = point.ram_bytes, limits_for(sweep.request.graph)
    if point.error is not None:
        return PlannedPoint(ram_bytes=ram_bytes, error=point.error)
    request = Request(
        method="GET", path=f"{place.path}/plans/{ram_bytes}", most_bytes=limits.document_bytes
    )
    reply = yield from exchange(request, terms.retry, ends)
    if reply.status in _NO_PLAN:
        return PlannedPoint(ram_bytes=ram_bytes, error=_without_plan(point.state))
    if reply.status != 200:
        raise refusal(reply)
    document = read_object(reply.body, limits)
    return PlannedPoint(ram_bytes=ram_bytes, plan=judged(document, sweep.for_budget(ram_bytes)))


def _without_plan(state: JobState) -> ServiceError:
    return ServiceError(
        f"There is no plan for this budget. {state.sentence}",
        code="job_stopped" if state is JobState.STOPPED else "no_plan_here",
        hint="Ask again.",
    )


def swept(sweep: Sweep, key: str, terms: Terms, ends: Deadline) -> Flow[None]:
    """From the budgets to their points, through one job; see `plan_flows`."""
    if not sweep.ram_bytes:
        for point in sweep.refused:
            yield Emit(point)
        return
    view = yield from submit_frontier(sweep, key, terms, ends)
    place = frontier_place(view.job_id, len(sweep.ram_bytes))
    try:
        yield from found(place, sweep, terms, ends)
    except GeneratorExit:
        raise
    except BaseException:
        yield from say_goodbye(place, terms)
        raise
