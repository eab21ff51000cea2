"""/v1/plans: ask for a plan, follow its job, stop it; and the questions that need no job."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from poet_service.jobs.followed import read_cursor
from poet_service.jobs.listing import list_jobs
from poet_service.jobs.questions import examine, judge_supplied
from poet_service.openapi import plans as described
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
    json_response,
    json_text,
)

_MOST_LISTED = 100
_MOST_OFFSET = 2**53 - 1


def add_plan_routes(router: APIRouter, parts: Parts) -> None:
    """The routes of plan jobs and of the questions about plans."""
    replies = JobReplies(parts=parts, jobs=parts.jobs, unknown="plan_unknown")
    _add_submission(router, parts, replies)
    _add_questions(router, parts)
    _add_jobs(router, replies)
    _add_results(router, parts)


def _add_submission(router: APIRouter, parts: Parts, replies: JobReplies) -> None:
    @router.post("/v1/plans", **described.SUBMIT)
    async def submit_plan(
        request: Request, wait: Wait = None, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await replies.submit(request, wait, idempotency_key)

    @router.get("/v1/plans", **described.LIST)
    async def list_plans(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = 20,
        before: Annotated[
            str | None, Query(pattern="^[0-9a-f]{32}$", description="`next` of the page before.")
        ] = None,
    ) -> Response:
        page = await parts.threads.database(
            list_jobs, parts.store, caller_of(request).token_id, limit=limit, before=before
        )
        return json_response(page)


def _add_questions(router: APIRouter, parts: Parts) -> None:
    @router.post("/v1/plans:validate", **described.VALIDATE)
    async def validate_plan(request: Request) -> Response:
        async with parts.bodies.read(request) as body:
            return json_response(await parts.threads.work(examine, body, parts.settings))

    @router.post("/v1/plans:verify", **described.VERIFY)
    async def verify_plan(request: Request) -> Response:
        async with parts.bodies.read(request) as body:
            return json_response(await parts.threads.work(judge_supplied, body, parts.settings))


def _add_jobs(router: APIRouter, replies: JobReplies) -> None:
    @router.get("/v1/plans/{job_id}", **described.GET)
    async def get_plan_job(request: Request, job_id: str, wait: Wait = None) -> Response:
        return await replies.view(request, job_id, wait)

    @router.delete("/v1/plans/{job_id}", **described.DELETE)
    async def stop_plan_job(request: Request, job_id: str, discard: Discard = False) -> Response:
        return await replies.leave(request, job_id, discard=discard)


def _add_results(router: APIRouter, parts: Parts) -> None:
    @router.get("/v1/plans/{job_id}/events", **described.EVENTS)
    async def follow_plan_job(
        request: Request,
        job_id: str,
        last_event_id: LastEventId = None,
        after: After = None,
    ) -> Response:
        caller = caller_of(request)
        job, _ = await parts.jobs.find(caller, job_id_of(request, job_id))
        return parts.stream(caller, job, read_cursor(last_event_id or after, 1))

    @router.get("/v1/plans/{job_id}/plan", **described.PLAN)
    async def get_plan(request: Request, job_id: str) -> Response:
        return json_text(await parts.jobs.plan(caller_of(request), job_id_of(request, job_id)))

    @router.get("/v1/plans/{job_id}/log", **described.LOG)
    async def get_log(
        request: Request,
        job_id: str,
        offset: Annotated[
            int, Query(ge=0, le=_MOST_OFFSET, description="`next_offset` of the part before.")
        ] = 0,
    ) -> Response:
        return json_response(
            await parts.jobs.log(caller_of(request), job_id_of(request, job_id), offset)
        )
