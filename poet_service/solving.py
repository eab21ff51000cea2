"""Solves: a bounded number at once, each in a thread, each ended when its client goes away.

The solver itself runs in a process of its own under poet_solvers; setting `cancel` kills it.
Nothing leaves here that the judge has not accepted for the very problem that was asked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from starlette.requests import Request

from poet_core.errors import PlanError, ServiceError
from poet_core.plan import Plan, Problem
from poet_core.plan_request import BackendChoice, PlannerChoice, PlanRequest
from poet_core.simulate import Judgement
from poet_core.verify import verify

_Result = TypeVar("_Result")

# Address space of a solver process: enough for every graph within the service's limits, and a
# hostile one takes no more.
_SOLVER_BYTES = 4 * 2**30


class Planner(Protocol):
    """Finds a plan for a problem, or raises PlanningError or BudgetError."""

    def __call__(
        self,
        problem: Problem,
        *,
        planner: PlannerChoice,
        backend: BackendChoice,
        wall_seconds: float,
        patience_seconds: float,
        cancel: threading.Event,
    ) -> Plan: ...


def default_planner(
    problem: Problem,
    *,
    planner: PlannerChoice,
    backend: BackendChoice,
    wall_seconds: float,
    patience_seconds: float,
    cancel: threading.Event,
) -> Plan:
    """poet_solvers, imported when the first plan is asked for."""
    from poet_solvers.backends import SolveLimits
    from poet_solvers.planner import plan

    limits = SolveLimits(
        wall_seconds=wall_seconds, patience_seconds=patience_seconds, memory_bytes=_SOLVER_BYTES
    )
    return plan(problem, planner=planner, backend=backend, limits=limits, cancel=cancel)


def solve(
    planner: Planner, request: PlanRequest, problem: Problem, cancel: threading.Event
) -> tuple[Plan, Judgement]:
    """A plan that the judge accepts, with the judgement. Raises what the planner raises."""
    plan = planner(
        problem,
        planner=request.planner,
        backend=request.backend,
        wall_seconds=request.wall_seconds,
        patience_seconds=request.patience_seconds,
        cancel=cancel,
    )
    asked = (problem.budget, problem.costs, problem.allowed, problem.objective, problem.device_name)
    answered = (plan.budget, plan.costs, plan.allowed, plan.objective, plan.device_name)
    if answered != asked:
        raise PlanError("The planner answered another problem.", code="plan_for_other_problem")
    return plan, verify(problem.graph, plan)


class Gate:
    """At most `most` holders at once; the next one is refused, never queued."""

    def __init__(self, most: int, what: str, retry_after_seconds: int) -> None:
        self._most, self._what = most, what
        self._retry_after_seconds = retry_after_seconds
        self.held = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a place. Raises ServiceError (`busy`). Used from the event loop only."""
        if self.held >= self._most:
            raise ServiceError(
                f"The service is busy with {self.held} {self._what}, which is its limit.",
                code="busy",
                hint=f"Try again in {self._retry_after_seconds} seconds, or plan locally.",
                details={"retry_after_seconds": self._retry_after_seconds},
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


async def in_thread(work: Callable[[], _Result], cancel: threading.Event | None = None) -> _Result:
    """Run `work` in a thread. When the wait is cancelled, `cancel` is set and the thread is waited
    for, so that a place in a gate is never given back while its work runs on."""
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if cancel is not None:
            cancel.set()
        await asyncio.wait([task])
        raise


@asynccontextmanager
async def cancelled_with(request: Request) -> AsyncIterator[threading.Event]:
    """An event that is set as soon as the client goes away, and in any case at the end."""
    cancel = threading.Event()
    watcher = asyncio.ensure_future(_watch(request, cancel))
    try:
        yield cancel
    finally:
        watcher.cancel()
        cancel.set()


async def _watch(request: Request, cancel: threading.Event) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    cancel.set()
