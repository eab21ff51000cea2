"""Handles of jobs at a service, made by PlannerClient.

    job = client.submit(request)
    plan = job.wait(on_progress=print)

Every call may raise ServiceError. Calls may come from several threads, so that one stops what
another waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from poet_client.frontier_flows import FrontierView, PlannedPoint
from poet_client.handles import FrontierFlows, PlanJobFlows, PointCollector, ProgressTeller
from poet_client.views import JobEvent, JobProgress, JobView, LogPart
from poet_client.wire import Flow
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

_Value = TypeVar("_Value")


class Runner(Protocol):
    """What does the work of flows: a PlannerClient."""

    def run(self, flow: Flow[_Value], heard: Callable[[Any], object] | None = None) -> _Value:
        """What the flow returns."""
        ...

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        """What the flow emits."""
        ...


class Job:
    """One plan that was asked for."""

    def __init__(self, runner: Runner, flows: PlanJobFlows) -> None:
        self._runner, self._flows = runner, flows

    @property
    def job_id(self) -> str:
        """32 hexadecimal digits."""
        return self._flows.place.job_id

    @property
    def request(self) -> PlanRequest | None:
        """What was asked, in figures; None where only the id is known."""
        return self._flows.request

    def view(self, wait_seconds: float = 0.0) -> JobView:
        """The job now, or when it ends within `wait_seconds` (of which a server may allow less)."""
        return self._runner.run(self._flows.view(wait_seconds))

    def wait(
        self,
        *,
        timeout: float | None = None,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> Plan:
        """The plan, judged here, once the job has ended. Raises the job's error where it failed,
        ServiceError (`server_timeout`, and the job goes on; `job_stopped`) and PlanError."""
        flow = self._flows.plan(timeout, listening=on_progress is not None)
        return self._runner.run(flow, ProgressTeller(on_progress))

    def judge(self, view: JobView) -> Plan | None:
        """The plan of a view of this job, judged here; None where it has none. Raises PlanError,
        ServiceError, and UsageError (`request_unknown`)."""
        return self._flows.judge(view)

    def events(self, *, after: str = "", timeout: float | None = None) -> Iterator[JobEvent]:
        """The job's events from the one after `after` on, until it has ended."""
        flow = self._flows.events(after, self._flows.seconds(timeout))
        return (value for value in self._runner.iterate(flow) if isinstance(value, JobEvent))

    def stop(self) -> JobView:
        """Ask the server to look no further; the best plan so far is in the view."""
        return self._runner.run(self._flows.stop())

    def discard(self) -> None:
        """Stop the job, and have what the server keeps of it erased."""
        self._runner.run(self._flows.discard())

    def log(self, offset: int = 0) -> LogPart:
        """The planner's log from `offset` on, as much as the server sends at once."""
        return self._runner.run(self._flows.log(offset))

    def plan_document(self) -> dict[str, Any]:
        """The best plan so far as the server sends it: the JSON of a `poet.plan/1`, not judged."""
        return self._runner.run(self._flows.plan_document())


class FrontierJob:
    """Plans for many RAM budgets that were asked for at once."""

    def __init__(self, runner: Runner, flows: FrontierFlows) -> None:
        self._runner, self._flows = runner, flows

    @property
    def job_id(self) -> str:
        """32 hexadecimal digits."""
        return self._flows.place.job_id

    def view(self, wait_seconds: float = 0.0) -> FrontierView:
        """The frontier now, or when it ends within `wait_seconds`."""
        return self._runner.run(self._flows.view_points(wait_seconds))

    def wait(
        self,
        *,
        timeout: float | None = None,
        on_point: Callable[[PlannedPoint], object] | None = None,
    ) -> tuple[PlannedPoint, ...]:
        """Every budget's plan, judged here, or why it has none, loosest first; `on_point` hears of
        each as it ends. Raises ServiceError (`server_timeout`, and the job goes on) and PlanError."""
        collector = PointCollector(on_point)
        self._runner.run(self._flows.points(timeout), collector)
        return collector.points()

    def events(self, *, after: str = "", timeout: float | None = None) -> Iterator[JobEvent]:
        """The events of all its solves, `ram_bytes` in each, until the frontier has ended."""
        flow = self._flows.events(after, self._flows.seconds(timeout))
        return (value for value in self._runner.iterate(flow) if isinstance(value, JobEvent))

    def stop(self) -> JobView:
        """Ask the server to look no further; `wait` then gives what was found."""
        return self._runner.run(self._flows.stop())

    def discard(self) -> None:
        """Stop the job, and have what the server keeps of it erased."""
        self._runner.run(self._flows.discard())
