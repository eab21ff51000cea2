"""Frontier jobs: one solve per RAM budget, shared and stored like any other, and one view of all."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.execution.executor import Executor
from poet_service.jobs.asked_frontier import AskedFrontier, read_asked_frontier
from poet_service.jobs.desk import Jobs, Reply, new_job_id
from poet_service.jobs.frontier_views import FrontierViews
from poet_service.jobs.keys import solve_key
from poet_service.jobs.records import JobKind, JobRecord, SolveRecord
from poet_service.jobs.shown import unknown_job
from poet_service.jobs.views import frontier_path, frontier_state
from poet_service.poller import Poller
from poet_service.security.tokens import Caller
from poet_service.settings import Settings
from poet_service.threads import Threads

_Found = tuple[JobRecord, Mapping[str, SolveRecord]]


class Frontiers:
    """The frontier jobs of one process. Every method is called from the event loop."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        settings: Settings,
        threads: Threads,
        poller: Poller,
        jobs: Jobs,
        views: FrontierViews,
    ) -> None:
        self._store, self._executor, self._settings = store, executor, settings
        self._threads, self._poller, self._jobs = threads, poller, jobs
        self._views = views

    async def submit(self, caller: Caller, body: bytes, *, idempotency_key: str | None) -> Reply:
        """Take a body of POST /v1/frontiers in. Raises what `read_asked_frontier` and the store
        refuse."""
        secret = await self._jobs.secret()

        def read() -> tuple[AskedFrontier, list[tuple[int, bytes, bytes]]]:
            asked = read_asked_frontier(body, self._settings)
            return asked, [
                (ram_bytes, solve_key(secret, caller.tenant, document), document)
                for ram_bytes, document in asked.documents
            ]

        asked, points = await self._threads.work(read)
        digest = hashlib.sha256(b"".join(key for _, key, _ in points)).digest()
        submitted = await self._threads.database(
            self._store.submit_frontier,
            job_id=new_job_id(),
            token_id=caller.token_id,
            tenant=caller.tenant,
            points=points,
            wall_seconds=asked.wall_seconds,
            idempotency=None if idempotency_key is None else (idempotency_key, digest),
            warm_start=None,
            limits=self._jobs.limits_of(caller),
        )
        for solve_id in submitted.created_solves:
            await self._executor.submit(solve_id)
        return await self._reply(submitted.job, submitted.solves)

    async def ending(self, caller: Caller, reply: Reply, seconds: float) -> Reply:
        """The reply to a submission again, at the job's end or after `seconds`."""
        return await self._reply(*await self._waited(caller, reply.job_id, seconds))

    async def view(self, caller: Caller, job_id: str, *, wait_seconds: float = 0) -> bytes:
        """The job with its points as JSON, after its end or `wait_seconds`. Raises ServiceError
        (`frontier_unknown`)."""
        found = await self._waited(caller, job_id, wait_seconds)
        return await self._threads.work(self._views.view, *found)

    async def find(self, caller: Caller, job_id: str) -> _Found:
        """A frontier job of this token and its solves. Raises ServiceError (`frontier_unknown`)."""

        def look() -> _Found | None:
            job = self._store.job(job_id, caller.token_id)
            if job is None or job.kind is not JobKind.FRONTIER:
                return None
            solves = self._store.solves(job.solve_ids)
            return (job, solves) if len(solves) == len(job.solve_ids) else None

        found = await self._threads.database(look)
        if found is None:
            raise unknown_job("frontier_unknown")
        return found

    async def leave(self, caller: Caller, job_id: str, *, discard: bool) -> bytes | None:
        """Stop all points and show the job as it stays, or erase it. Raises ServiceError."""
        await self.find(caller, job_id)
        left = await self._threads.database(
            self._store.leave, job_id, caller.token_id, discard=discard
        )
        if left is None:
            raise unknown_job("frontier_unknown")
        for solve_id in left.solves_to_stop:
            await self._executor.stop(solve_id)
        self._poller.nudge(left.job.solve_ids)
        return None if discard else await self.view(caller, job_id)

    async def plan(self, caller: Caller, job_id: str, ram_bytes: int) -> bytes:
        """The plan document of one point. Raises ServiceError (`frontier_unknown`, `no_plan_yet`)."""
        job, solves = await self.find(caller, job_id)
        if all(point.ram_bytes != ram_bytes for point in job.points):
            raise unknown_job("frontier_unknown")
        plan = await self._threads.work(self._views.plan, job, solves, ram_bytes)
        if plan is None:
            ended = frontier_state(job, solves.values()).ended
            raise ServiceError(
                "This point ended without a plan." if ended else "This point has no plan yet.",
                code="no_plan" if ended else "no_plan_yet",
                hint=f"See GET {frontier_path(job_id)}.",
            )
        return plan

    async def _reply(self, job: JobRecord, solves: Mapping[str, SolveRecord]) -> Reply:
        return Reply(
            job_id=job.id,
            ended=frontier_state(job, solves.values()).ended,
            location=frontier_path(job.id),
            body=await self._threads.work(self._views.view, job, solves),
        )

    async def _waited(self, caller: Caller, job_id: str, seconds: float) -> _Found:
        ends = time.monotonic() + seconds
        while True:
            mark = self._poller.mark
            job, solves = await self.find(caller, job_id)
            active = {item.id: item.last_seq for item in solves.values() if not item.state.ended}
            left = ends - time.monotonic()
            if (
                frontier_state(job, solves.values()).ended
                or left <= 0
                or not await self._poller.news(active, left, mark=mark)
            ):
                return job, solves
