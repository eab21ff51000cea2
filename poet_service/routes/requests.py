"""What routes read from a request: who asks, which job, how long to wait, under which key.

A job's id that is none, another token's and an unknown one are answered alike.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Header, Query
from starlette.requests import Request
from starlette.responses import Response

from poet_core.errors import ServiceError
from poet_service.jobs.desk import Reply
from poet_service.jobs.shown import unknown_job
from poet_service.problems import json_bytes
from poet_service.security.tokens import Caller
from poet_service.settings import Settings

_Result = TypeVar("_Result")

_JOB_ID = re.compile(r"[0-9a-f]{32}")
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?(?:$|[,;\s])", re.IGNORECASE)

Wait = Annotated[
    float | None,
    Query(ge=0, allow_inf_nan=False, description="Seconds to wait for the end; see docs."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[ -~]{1,200}$",
        description="The client's own name of this submission: sent again, it is the same job.",
    ),
]
Discard = Annotated[bool, Query(description="Erase the job instead of keeping what it has.")]
_EVENT_ID = "^([0-9a-z]{1,15}(-[0-9a-z]{1,15})*)?$"
LastEventId = Annotated[
    str | None,
    Header(alias="Last-Event-ID", pattern=_EVENT_ID, description="Resume after this event."),
]
After = Annotated[
    str | None,
    Query(pattern=_EVENT_ID, description="The same, for clients that cannot set headers."),
]


def caller_of(request: Request) -> Caller:
    """Who asks; Shields found out."""
    caller: Caller = request.scope["poet_caller"]
    return caller


def job_id_of(request: Request, text: str, code: str = "plan_unknown") -> str:
    """A job's id, for the log too. Raises ServiceError where it can be none."""
    if not _JOB_ID.fullmatch(text):
        raise unknown_job(code)
    request.scope["poet_job_id"] = text
    return text


def seconds_to_wait(request: Request, wait: float | None, settings: Settings) -> float:
    """How long to wait: `?wait=`, else `Prefer: wait=`, at most what the service allows."""
    if wait is None:
        preferred = _PREFER_WAIT.search(request.headers.get("prefer", ""))
        wait = float(preferred.group(1)) if preferred else 0.0
    return min(wait, settings.most_wait_seconds)


async def unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """The result of `work`, which ends when the client goes away. Raises ServiceError
    (`client_gone`), which nobody reads."""
    working = asyncio.ensure_future(work)
    going = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, going), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ServiceError("The client went away.", code="client_gone")
        return working.result()
    finally:
        for task in (working, going):
            task.cancel()
        await asyncio.gather(working, going, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def json_response(document: object, status: int = 200) -> Response:
    """A JSON reply."""
    return json_text(json_bytes(document), status)


def json_text(text: bytes, status: int = 200) -> Response:
    """A JSON reply that is a text already."""
    return Response(text, status_code=status, media_type="application/json")


def submitted(reply: Reply) -> Response:
    """200 where the answer is there, else 202; the job's address in both."""
    return Response(
        reply.body,
        status_code=200 if reply.ended else 202,
        media_type="application/json",
        headers={"Location": reply.location},
    )
