"""PlannerClient: plans from a service, judged here.

The server is not trusted. The device's profile and every limit are resolved here and sent as
figures; the answer must be a plan for exactly this problem, within bounds on bytes and
instructions, and pass the judge against this very graph. Otherwise nothing is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx

from poet_client import questions
from poet_client.asking import PlanArguments, asking_of, new_key
from poet_client.frontier_flows import PlannedPoint, swept
from poet_client.handles import PointCollector, ProgressTeller
from poet_client.job import FrontierJob, Job
from poet_client.job_list import JobPage, job_page
from poet_client.judging import with_figures
from poet_client.questions import Validation, Verdict
from poet_client.retrying import RetryPolicy
from poet_client.transport import Conversation
from poet_client.views import JobProgress
from poet_client.wire import Flow
from poet_client.wire_http import client_options
from poet_core.device import DeviceProfile
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

_Value = TypeVar("_Value")


class PlannerClient:
    """A planning service at `url` (http or https).

    `timeout` bounds a plan in seconds, its turn in the queue included; None: the planning time asked
    for, and ten minutes more. `token` (or POET_TOKEN, or the file that POET_TOKEN_FILE names) goes
    to this origin alone, and not unencrypted to another machine unless `allow_insecure`. Connections
    are kept inside a `with` block, and made for each call without one. Raises UsageError.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = None,
        token: str | None = None,
        allow_insecure: bool = False,
        retry: RetryPolicy | None = None,
    ) -> None:
        self._asking = asking_of(
            url, timeout=timeout, token=token, allow_insecure=allow_insecure, retry=retry
        )
        self._http: httpx.Client | None = None

    def __repr__(self) -> str:
        return f"PlannerClient({self._asking.address.shown!r})"

    def __enter__(self) -> PlannerClient:
        self._http = self._connections()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def plan(
        self,
        graph: TrainingGraph,
        *,
        on_progress: Callable[[JobProgress], object] | None = None,
        **asked: Unpack[PlanArguments],
    ) -> Plan:
        """A plan for `graph` that the judge accepts here. See PlanRequest for the arguments.

        `flash_write_bytes` None means at most 4 x keep-everything's peak. Raises ServiceError
        (unreachable, or an answer that is none), PlanError (the judge refuses the server's plan),
        and what the server refuses, as the same error that planning here would raise.
        """
        return self.answer(PlanRequest(graph=graph, **asked), on_progress=on_progress)

    def answer(
        self,
        request: PlanRequest,
        *,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> Plan:
        """The same for a whole request."""
        flow = self._asking.plan(request, listening=on_progress is not None)
        return self.run(flow, ProgressTeller(on_progress))

    def submit(
        self,
        request: PlanRequest,
        *,
        warm_start: Plan | None = None,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> Job:
        """A job for the request, begun from `warm_start` where that is a plan for the same graph;
        `on_progress` hears that a busy service is asked again. Raises as `plan`."""
        flow = self._asking.submit(request, warm_start)
        return Job(self, self.run(flow, ProgressTeller(on_progress)))

    def job(self, job_id: str, request: PlanRequest | None = None) -> Job:
        """A handle of a job that is there. Without its request nothing can be judged here. Raises
        UsageError (`job_id_invalid`); asks no server."""
        figures = None if request is None else with_figures(request)
        return Job(self, self._asking.job(job_id, figures))

    def jobs(self, *, limit: int = 50, before: str | None = None) -> JobPage:
        """The caller's jobs, newest first."""
        return self.run(job_page(limit, before, self._asking.terms, self._asking.soon()))

    def frontier(
        self,
        request: PlanRequest,
        ram_bytes: Sequence[int],
        *,
        on_point: Callable[[PlannedPoint], object] | None = None,
    ) -> tuple[PlannedPoint, ...]:
        """Plans within each of these RAM budgets, judged here, loosest first; `on_point` hears of
        each as it ends. The request's own RAM budget is any that can be met. Raises as `plan`."""
        sweep, collector = self._asking.sweep(request, ram_bytes), PointCollector(on_point)
        ends = self._asking.sweep_ends(sweep)
        self.run(swept(sweep, new_key(), self._asking.terms, ends), collector)
        return collector.points()

    def submit_frontier(self, request: PlanRequest, ram_bytes: Sequence[int]) -> FrontierJob:
        """A job for these RAM budgets. Raises UsageError (`points_invalid`)."""
        sweep = self._asking.sweep(request, ram_bytes)
        return FrontierJob(self, self.run(self._asking.submit_frontier(sweep)))

    def frontier_job(self, job_id: str) -> FrontierJob:
        """A handle of a frontier that is there: to look at it and to stop it. Raises UsageError
        (`job_id_invalid`); asks no server."""
        return FrontierJob(self, self._asking.frontier(job_id, None))

    def devices(self) -> tuple[DeviceProfile, ...]:
        """The profiles that the server knows."""
        return self.run(questions.devices(self._asking.terms, self._asking.soon()))

    def validate(self, request: PlanRequest) -> Validation:
        """Sizes, floor and bounds of a request, as the server finds them, without a solve."""
        return self.run(questions.validate(request, self._asking.terms, self._asking.soon()))

    def verify(self, request: PlanRequest, plan: Plan) -> Verdict:
        """What the judge at the server says of a plan for the request."""
        return self.run(questions.verify(request, plan, self._asking.terms, self._asking.soon()))

    def run(self, flow: Flow[_Value], heard: Callable[[Any], object] | None = None) -> _Value:
        """Does the work of a flow (`poet_client.wire`); `heard` gets what it emits."""
        heard = heard or _nobody
        if self._http is not None:
            return Conversation(self._asking.address, self._http).run(flow, heard)
        with self._connections() as http:
            return Conversation(self._asking.address, http).run(flow, heard)

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        """The same, one emitted value after the other."""
        if self._http is not None:
            yield from Conversation(self._asking.address, self._http).iterate(flow)
            return
        with self._connections() as http:
            yield from Conversation(self._asking.address, http).iterate(flow)

    def _connections(self) -> httpx.Client:
        return httpx.Client(**client_options(self._asking.address))


def _nobody(_: Any) -> None:
    pass
