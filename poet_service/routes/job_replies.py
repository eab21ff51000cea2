"""What every kind of job is asked in the same words: submitted, looked at, stopped.

Invariant: a client that goes away ends its own wait, never the job.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from poet_service.jobs.desk import Jobs
from poet_service.jobs.frontier_desk import Frontiers
from poet_service.routes.parts import Parts
from poet_service.routes.requests import (
    caller_of,
    job_id_of,
    json_text,
    seconds_to_wait,
    submitted,
    unless_gone,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReplies:
    """Replies of one kind of job. `unknown`: the code of the error for a job that is not there."""

    parts: Parts
    jobs: Jobs | Frontiers
    unknown: str

    async def submit(self, request: Request, wait: float | None, key: str | None) -> Response:
        """200 with an ended job, or 202; `wait` seconds for its end, `key` for retries."""
        caller = caller_of(request)
        async with self.parts.bodies.read(request) as body:
            reply = await self.jobs.submit(caller, body, idempotency_key=key)
        request.scope["poet_job_id"] = reply.job_id
        seconds = seconds_to_wait(request, wait, self.parts.settings)
        if seconds and not reply.ended:
            reply = await unless_gone(request, self.jobs.ending(caller, reply, seconds))
        return submitted(reply)

    async def view(self, request: Request, job_id: str, wait: float | None) -> Response:
        """The job as it stands, after at most `wait` seconds."""
        job_id = job_id_of(request, job_id, self.unknown)
        seconds = seconds_to_wait(request, wait, self.parts.settings)
        work = self.jobs.view(caller_of(request), job_id, wait_seconds=seconds)
        return json_text(await (unless_gone(request, work) if seconds else work))

    async def leave(self, request: Request, job_id: str, *, discard: bool) -> Response:
        """The job as it stays, or 204 where it was erased."""
        job_id = job_id_of(request, job_id, self.unknown)
        view = await self.jobs.leave(caller_of(request), job_id, discard=discard)
        return Response(status_code=204) if view is None else json_text(view)
