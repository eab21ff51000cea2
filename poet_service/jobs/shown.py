"""ShownJobs: a plan job as it is shown to the token that has it.

    find    the job and its solve           view    both as JSON, after a wait where one was asked for
    plan    its plan document alone         log     what its planner wrote

A plan is judged before it is shown; one that the judge refuses is shown as that error.
"""

from __future__ import annotations

import time

from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.jobs.judged import Answer, JudgedPlans
from poet_service.jobs.records import JobRecord, SolveRecord
from poet_service.jobs.views import has_ended, plan_job_path, plan_job_view
from poet_service.poller import Poller
from poet_service.problems import error_document
from poet_service.security.tokens import Caller
from poet_service.settings import Settings
from poet_service.threads import Threads


def unknown_job(code: str = "plan_unknown") -> ServiceError:
    """A job that is not there, or not this token's: nobody can tell which."""
    return ServiceError(
        "This service has no job of that id.",
        code=code,
        hint="Ended jobs are erased after a while: post the request again.",
    )


class ShownJobs:
    """The part of the plan jobs that only looks. Every method is called from the event loop."""

    def __init__(
        self,
        *,
        store: Store,
        settings: Settings,
        threads: Threads,
        poller: Poller,
        judged: JudgedPlans,
    ) -> None:
        self._store, self._settings = store, settings
        self._threads, self._poller, self._judged = threads, poller, judged

    async def view(self, caller: Caller, job_id: str, *, wait_seconds: float = 0) -> bytes:
        """The job as JSON, after its end or `wait_seconds`. Raises ServiceError (`plan_unknown`)."""
        job, solve = await self._waited(caller, job_id, wait_seconds)
        return await self._shown(job, solve)

    async def find(self, caller: Caller, job_id: str) -> tuple[JobRecord, SolveRecord]:
        """A plan job of this token and its solve. Raises ServiceError (`plan_unknown`)."""

        def look() -> tuple[JobRecord | None, SolveRecord | None]:
            job = self._store.job(job_id, caller.token_id)
            if job is None or job.solve_id is None:
                return None, None
            return job, self._store.solve(job.solve_id)

        job, solve = await self._threads.database(look)
        if job is None or solve is None:
            raise unknown_job()
        return job, solve

    async def plan(self, caller: Caller, job_id: str) -> bytes:
        """The plan document alone. Raises ServiceError (`no_plan_yet`, `no_plan`,
        `stored_plan_invalid`)."""
        job, solve = await self.find(caller, job_id)
        answer = await self._answer(job, solve)
        if answer is None:
            ended = has_ended(job, solve)
            raise ServiceError(
                "This job ended without a plan." if ended else "This job has no plan yet.",
                code="no_plan" if ended else "no_plan_yet",
                hint=f"See GET {plan_job_path(job_id)}.",
            )
        return answer.plan

    async def log(self, caller: Caller, job_id: str, offset: int) -> dict[str, object]:
        """A part of the planner's log from `offset` on, and whether it was the last."""
        _, solve = await self.find(caller, job_id)
        text, after = await self._threads.database(
            self._store.read_log, solve.id, offset, self._settings.log_chunk_bytes
        )
        return {
            "text": text,
            "next_offset": after,
            "done": solve.state.ended and after >= solve.log_bytes,
        }

    async def _waited(
        self, caller: Caller, job_id: str, seconds: float
    ) -> tuple[JobRecord, SolveRecord]:
        """The job at its end, or as it is when the time is over."""
        ends = time.monotonic() + seconds
        while True:
            mark = self._poller.mark
            job, solve = await self.find(caller, job_id)
            left = ends - time.monotonic()
            if (
                has_ended(job, solve)
                or left <= 0
                or not await self._poller.news({solve.id: solve.last_seq}, left, mark=mark)
            ):
                return job, solve

    async def _answer(self, job: JobRecord, solve: SolveRecord) -> Answer | None:
        if job.standing is not None:
            if not job.standing.has_plan:
                return None
            return await self._threads.work(self._judged.of_job, job.id, solve)
        if not solve.has_plan:
            return None
        return self._judged.known(solve) or await self._threads.work(self._judged.of_solve, solve)

    async def _shown(self, job: JobRecord, solve: SolveRecord) -> bytes:
        try:
            return plan_job_view(job, solve, await self._answer(job, solve))
        except ServiceError as error:
            if error.code != "stored_plan_invalid":
                raise
            again = await self._threads.database(self._store.solve, solve.id)
            return plan_job_view(job, again or solve, None, error_document(error))
