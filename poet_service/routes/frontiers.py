"""/v1/frontiers: one step under several RAM budgets, as one job with partial results."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from poet_core.units import LARGEST_INTEGER
from poet_service.jobs.followed import read_cursor
from poet_service.openapi import frontiers as described
from poet_service.routes.job_replies import JobReplies
from poet_service.routes.parts import Parts
from poet_service.routes.requests import (
    After,
    Discard,
    IdempotencyKey,
    LastEventId,
    Wait,
    caller_of,
    job_id_of,
    json_text,
)

_UNKNOWN = "frontier_unknown"


def add_frontier_routes(router: APIRouter, parts: Parts) -> None:
    """The routes of frontier jobs."""
    _add_jobs(router, JobReplies(parts=parts, jobs=parts.frontiers, unknown=_UNKNOWN))
    _add_results(router, parts)


def _add_jobs(router: APIRouter, replies: JobReplies) -> None:
    @router.post("/v1/frontiers", **described.SUBMIT)
    async def submit_frontier(
        request: Request, wait: Wait = None, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await replies.submit(request, wait, idempotency_key)

    @router.get("/v1/frontiers/{job_id}", **described.GET)
    async def get_frontier(request: Request, job_id: str, wait: Wait = None) -> Response:
        return await replies.view(request, job_id, wait)

    @router.delete("/v1/frontiers/{job_id}", **described.DELETE)
    async def stop_frontier(request: Request, job_id: str, discard: Discard = False) -> Response:
        return await replies.leave(request, job_id, discard=discard)


def _add_results(router: APIRouter, parts: Parts) -> None:
    @router.get("/v1/frontiers/{job_id}/events", **described.EVENTS)
    async def follow_frontier(
        request: Request,
        job_id: str,
        last_event_id: LastEventId = None,
        after: After = None,
    ) -> Response:
        caller = caller_of(request)
        job, solves = await parts.frontiers.find(caller, job_id_of(request, job_id, _UNKNOWN))
        return parts.stream(caller, job, read_cursor(last_event_id or after, len(solves)))

    @router.get("/v1/frontiers/{job_id}/plans/{ram_bytes}", **described.PLAN)
    async def get_frontier_plan(
        request: Request,
        job_id: str,
        ram_bytes: Annotated[int, Path(ge=1, le=LARGEST_INTEGER)],
    ) -> Response:
        job_id = job_id_of(request, job_id, _UNKNOWN)
        return json_text(await parts.frontiers.plan(caller_of(request), job_id, ram_bytes))
