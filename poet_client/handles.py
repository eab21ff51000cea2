"""What handles of jobs share, whether their calls wait or are awaited: flows with their deadlines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from poet_client import frontier_flows, job_flows
from poet_client.event_flows import events
from poet_client.frontier_flows import FrontierView, Sweep
from poet_client.job_flows import JobPlace, Terms
from poet_client.judging import judged_view
from poet_client.plan_flows import awaited
from poet_client.retrying import Notice
from poet_client.views import JobEvent, JobProgress, JobView, LogPart, progressed
from poet_client.wire import Deadline, Flow
from poet_core.errors import UsageError
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

CALL_SECONDS = 60.0
"""What a call may take that waits for no solver, with everything that is tried again."""

# What a server does beside the solving, and what a job may wait for its turn.
_OVERHEAD_SECONDS = 30.0
_QUEUE_SECONDS = 600.0
# The longest solve that a service allows.
_UNKNOWN_SOLVE_SECONDS = 3600.0


def job_seconds(request: PlanRequest | None, solves: int = 1) -> float:
    """What a job of so many solves may take, where nobody said."""
    solve = _UNKNOWN_SOLVE_SECONDS if request is None else request.wall_seconds
    return solve * solves + _QUEUE_SECONDS + _OVERHEAD_SECONDS


def sweep_seconds(sweep: Sweep) -> float:
    """What all solves of a sweep may take, one after the other."""
    return job_seconds(sweep.request, len(sweep.ram_bytes))


class ProgressTeller:
    """Tells what is known so far, whenever more is."""

    def __init__(self, on_progress: Callable[[JobProgress], object] | None) -> None:
        self._on_progress, self._now = on_progress, JobProgress()

    def __call__(self, value: Any) -> None:
        """An event, or a notice of the client's own."""
        if isinstance(value, Notice):
            value = JobEvent(event_id="", kind="notice", data={"message": value.message})
        if self._on_progress is not None and isinstance(value, JobEvent):
            self._now = progressed(self._now, value)
            self._on_progress(self._now)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlows:
    """What can be said to a server about one job."""

    place: JobPlace
    terms: Terms
    timeout: float | None = None

    def soon(self, more_seconds: float = 0.0) -> Deadline:
        """For a call that waits for no solver."""
        return self.terms.within(CALL_SECONDS + more_seconds)

    def view(self, wait_seconds: float) -> Flow[JobView]:
        """See `Job.view`."""
        return job_flows.look(self.place, self.terms, self.soon(wait_seconds), wait_seconds)

    def events(self, after: str, seconds: float) -> Flow[None]:
        """See `Job.events`."""
        return events(self.place, self.terms, self.terms.within(seconds), after)

    def stop(self) -> Flow[JobView]:
        """See `Job.stop`."""
        return job_flows.stop(self.place, self.terms, self.soon())

    def discard(self) -> Flow[None]:
        """See `Job.discard`."""
        return job_flows.discard(self.place, self.terms, self.soon())


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanJobFlows(JobFlows):
    """The same about a plan; `request` is None where only the id is known, and then nothing can be
    judged here."""

    request: PlanRequest | None

    def seconds(self, timeout: float | None) -> float:
        """What a wait may take."""
        return timeout or self.timeout or job_seconds(self.request)

    def plan(self, timeout: float | None, *, listening: bool) -> Flow[Plan]:
        """See `Job.wait`."""
        request, ends = self.known_request(), self.terms.within(self.seconds(timeout))
        view = yield from awaited(self.place, self.terms, ends, listening=listening)
        return job_flows.plan_of_ended(view, request)

    def log(self, offset: int) -> Flow[LogPart]:
        """See `Job.log`."""
        return job_flows.read_log(self.place, offset, self.terms, self.soon())

    def plan_document(self) -> Flow[dict[str, Any]]:
        """See `Job.plan_document`."""
        return job_flows.plan_document(self.place, self.terms, self.soon())

    def judge(self, view: JobView) -> Plan | None:
        """See `Job.judge`."""
        return judged_view(view, self.known_request())

    def known_request(self) -> PlanRequest:
        """Raises UsageError (`request_unknown`)."""
        if self.request is None:
            raise _request_unknown("client.job(job_id, request)")
        return self.request


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierFlows(JobFlows):
    """The same about a frontier; `sweep` is None where only the id is known."""

    sweep: Sweep | None

    def seconds(self, timeout: float | None) -> float:
        """What a wait may take."""
        sweep = self.sweep
        known = job_seconds(None) if sweep is None else sweep_seconds(sweep)
        return timeout or self.timeout or known

    def points(self, timeout: float | None) -> Flow[None]:
        """See `FrontierJob.wait`."""
        if self.sweep is None:
            raise _request_unknown("client.submit_frontier(request, ram_bytes)")
        ends = self.terms.within(self.seconds(timeout))
        return frontier_flows.found(self.place, self.sweep, self.terms, ends)

    def view_points(self, wait_seconds: float) -> Flow[FrontierView]:
        """See `FrontierJob.view`."""
        ends = self.soon(wait_seconds)
        return frontier_flows.look_at_frontier(self.place, self.terms, ends, wait_seconds)


def _request_unknown(how: str) -> UsageError:
    return UsageError(
        "A plan is judged against its request, which this handle does not know.",
        code="request_unknown",
        hint=f"Pass it: {how}.",
    )


class PointCollector:
    """Keeps the points of a frontier as they come, and tells of each."""

    def __init__(self, on_point: Callable[[frontier_flows.PlannedPoint], object] | None) -> None:
        self._on_point = on_point
        self._found: list[frontier_flows.PlannedPoint] = []

    def __call__(self, value: Any) -> None:
        """A point, or something else that is not kept."""
        if isinstance(value, frontier_flows.PlannedPoint):
            self._found.append(value)
            if self._on_point is not None:
                self._on_point(value)

    def points(self) -> tuple[frontier_flows.PlannedPoint, ...]:
        """Loosest first."""
        return tuple(sorted(self._found, key=lambda point: -point.ram_bytes))
