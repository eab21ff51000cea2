"""Handles of jobs at a service, made by AsyncPlannerClient; see `job`, whose calls these are.

job = await client.submit(request)
async for event in job.events(): ...
plan = await job.wait()
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

from poet_client.frontier_flows import FrontierView, PlannedPoint
from poet_client.handles import FrontierFlows, PlanJobFlows, PointCollector, ProgressTeller
from poet_client.views import JobEvent, JobProgress, JobView, LogPart
from poet_client.wire import Flow
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

_Value = TypeVar("_Value")


class AsyncRunner(Protocol):
    """What does the work of flows: an AsyncPlannerClient."""

    async def run(self, flow: Flow[_Value], heard: Callable[[Any], object] | None = None) -> _Value:
        """What the flow returns."""
        ...

    def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        """What the flow emits."""
        ...


class AsyncJob:
    """One plan that was asked for."""

    def __init__(self, runner: AsyncRunner, flows: PlanJobFlows) -> None:
        self._runner, self._flows = runner, flows

    @property
    def job_id(self) -> str:
        """32 hexadecimal digits."""
        return self._flows.place.job_id

    @property
    def request(self) -> PlanRequest | None:
        """What was asked, in figures; None where only the id is known."""
        return self._flows.request

    async def view(self, wait_seconds: float = 0.0) -> JobView:
        """See `Job.view`."""
        return await self._runner.run(self._flows.view(wait_seconds))

    async def wait(
        self,
        *,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> Plan:
        """See `Job.wait`; `on_progress` is called and not awaited."""
        flow = self._flows.plan(timeout, listening=on_progress is not None)
        return await self._runner.run(flow, ProgressTeller(on_progress))

    def judge(self, view: JobView) -> Plan | None:
        """See `Job.judge`."""
        return self._flows.judge(view)

    def events(
        self, *, after: str = "", timeout: float | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """See `Job.events`."""
        return _events(self._runner, self._flows, after, timeout)

    async def stop(self) -> JobView:
        """See `Job.stop`."""
        return await self._runner.run(self._flows.stop())

    async def discard(self) -> None:
        """See `Job.discard`."""
        await self._runner.run(self._flows.discard())

    async def log(self, offset: int = 0) -> LogPart:
        """See `Job.log`."""
        return await self._runner.run(self._flows.log(offset))

    async def plan_document(self) -> dict[str, Any]:
        """See `Job.plan_document`."""
        return await self._runner.run(self._flows.plan_document())


class AsyncFrontierJob:
    """Plans for many RAM budgets that were asked for at once."""

    def __init__(self, runner: AsyncRunner, flows: FrontierFlows) -> None:
        self._runner, self._flows = runner, flows

    @property
    def job_id(self) -> str:
        """32 hexadecimal digits."""
        return self._flows.place.job_id

    async def view(self, wait_seconds: float = 0.0) -> FrontierView:
        """See `FrontierJob.view`."""
        return await self._runner.run(self._flows.view_points(wait_seconds))

    async def wait(
        self,
        *,
        timeout: float | None = None,
        on_point: Callable[[PlannedPoint], object] | None = None,
    ) -> tuple[PlannedPoint, ...]:
        """See `FrontierJob.wait`."""
        collector = PointCollector(on_point)
        await self._runner.run(self._flows.points(timeout), collector)
        return collector.points()

    def events(
        self, *, after: str = "", timeout: float | None = None
    ) -> AsyncGenerator[JobEvent, None]:
        """See `FrontierJob.events`."""
        return _events(self._runner, self._flows, after, timeout)

    async def stop(self) -> JobView:
        """See `FrontierJob.stop`."""
        return await self._runner.run(self._flows.stop())

    async def discard(self) -> None:
        """See `FrontierJob.discard`."""
        await self._runner.run(self._flows.discard())


async def _events(
    runner: AsyncRunner, flows: PlanJobFlows | FrontierFlows, after: str, timeout: float | None
) -> AsyncGenerator[JobEvent, None]:
    flow = flows.events(after, flows.seconds(timeout))
    async with contextlib.aclosing(runner.iterate(flow)) as values:
        async for value in values:
            if isinstance(value, JobEvent):
                yield value
