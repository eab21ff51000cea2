"""AsyncPlannerClient: PlannerClient for asyncio. See there: the same calls, checks and errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack

import httpx

from poet_client import questions
from poet_client.asking import PlanArguments, asking_of, new_key
from poet_client.async_job import AsyncFrontierJob, AsyncJob
from poet_client.async_transport import AsyncConversation
from poet_client.frontier_flows import PlannedPoint, swept
from poet_client.handles import PointCollector, ProgressTeller
from poet_client.job_list import JobPage, job_page
from poet_client.judging import with_figures
from poet_client.questions import Validation, Verdict
from poet_client.retrying import RetryPolicy
from poet_client.views import JobProgress
from poet_client.wire import Flow
from poet_client.wire_http import client_options
from poet_core.device import DeviceProfile
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

_Value = TypeVar("_Value")


class AsyncPlannerClient:
    """A planning service at `url`, for asyncio. Arguments and errors are PlannerClient's. A task that
    is cancelled while it waits for `plan` or `frontier` has its job erased."""

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
        self._http: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"AsyncPlannerClient({self._asking.address.shown!r})"

    async def __aenter__(self) -> AsyncPlannerClient:
        self._http = self._connections()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def plan(
        self,
        graph: TrainingGraph,
        *,
        on_progress: Callable[[JobProgress], object] | None = None,
        **asked: Unpack[PlanArguments],
    ) -> Plan:
        """See `PlannerClient.plan`."""
        return await self.answer(PlanRequest(graph=graph, **asked), on_progress=on_progress)

    async def answer(
        self,
        request: PlanRequest,
        *,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> Plan:
        """See `PlannerClient.answer`."""
        flow = self._asking.plan(request, listening=on_progress is not None)
        return await self.run(flow, ProgressTeller(on_progress))

    async def submit(
        self,
        request: PlanRequest,
        *,
        warm_start: Plan | None = None,
        on_progress: Callable[[JobProgress], object] | None = None,
    ) -> AsyncJob:
        """See `PlannerClient.submit`."""
        flow = self._asking.submit(request, warm_start)
        return AsyncJob(self, await self.run(flow, ProgressTeller(on_progress)))

    def job(self, job_id: str, request: PlanRequest | None = None) -> AsyncJob:
        """See `PlannerClient.job`."""
        figures = None if request is None else with_figures(request)
        return AsyncJob(self, self._asking.job(job_id, figures))

    async def jobs(self, *, limit: int = 50, before: str | None = None) -> JobPage:
        """See `PlannerClient.jobs`."""
        return await self.run(job_page(limit, before, self._asking.terms, self._asking.soon()))

    async def frontier(
        self,
        request: PlanRequest,
        ram_bytes: Sequence[int],
        *,
        on_point: Callable[[PlannedPoint], object] | None = None,
    ) -> tuple[PlannedPoint, ...]:
        """See `PlannerClient.frontier`."""
        sweep, collector = self._asking.sweep(request, ram_bytes), PointCollector(on_point)
        ends = self._asking.sweep_ends(sweep)
        await self.run(swept(sweep, new_key(), self._asking.terms, ends), collector)
        return collector.points()

    async def submit_frontier(
        self, request: PlanRequest, ram_bytes: Sequence[int]
    ) -> AsyncFrontierJob:
        """See `PlannerClient.submit_frontier`."""
        sweep = self._asking.sweep(request, ram_bytes)
        return AsyncFrontierJob(self, await self.run(self._asking.submit_frontier(sweep)))

    def frontier_job(self, job_id: str) -> AsyncFrontierJob:
        """See `PlannerClient.frontier_job`."""
        return AsyncFrontierJob(self, self._asking.frontier(job_id, None))

    async def devices(self) -> tuple[DeviceProfile, ...]:
        """See `PlannerClient.devices`."""
        return await self.run(questions.devices(self._asking.terms, self._asking.soon()))

    async def validate(self, request: PlanRequest) -> Validation:
        """See `PlannerClient.validate`."""
        return await self.run(questions.validate(request, self._asking.terms, self._asking.soon()))

    async def verify(self, request: PlanRequest, plan: Plan) -> Verdict:
        """See `PlannerClient.verify`."""
        flow = questions.verify(request, plan, self._asking.terms, self._asking.soon())
        return await self.run(flow)

    async def run(self, flow: Flow[_Value], heard: Callable[[Any], object] | None = None) -> _Value:
        """See `PlannerClient.run`."""
        heard = heard or _nobody
        if self._http is not None:
            return await AsyncConversation(self._asking.address, self._http).run(flow, heard)
        async with self._connections() as http:
            return await AsyncConversation(self._asking.address, http).run(flow, heard)

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        """See `PlannerClient.iterate`."""
        async with contextlib.AsyncExitStack() as stack:
            http = self._http
            if http is None:
                http = await stack.enter_async_context(self._connections())
            conversation = AsyncConversation(self._asking.address, http)
            values = await stack.enter_async_context(
                contextlib.aclosing(conversation.iterate(flow))
            )
            async for value in values:
                yield value

    def _connections(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(**client_options(self._asking.address))


def _nobody(_: Any) -> None:
    pass
