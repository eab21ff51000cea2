"""Replies in words, for the descriptions of routes."""

from __future__ import annotations

from typing import Any

from poet_service.openapi.documents import Schema
from poet_service.openapi.schemas import ref

_JSON = "application/json"
_PROBLEM = "application/problem+json"

Replies = dict[int | str, dict[str, Any]]


def json_reply(description: str, schema: str, **more: Any) -> dict[str, Any]:
    """A JSON reply of one of the components."""
    return {"description": description, "content": {_JSON: {"schema": ref(schema)}}, **more}


def problem(description: str, **example: Any) -> dict[str, Any]:
    """A refusal."""
    content: dict[str, Any] = {"schema": ref("Problem")}
    if example:
        content["example"] = example
    return {"description": description, "content": {_PROBLEM: content}}


def location() -> dict[str, Any]:
    """The header that names the job."""
    return {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}


def body(schema: str, examples: dict[str, Any]) -> dict[str, Any]:
    """What a route reads, for `openapi_extra`."""
    content: dict[str, Schema] = {"schema": ref(schema)}
    if examples:
        content["examples"] = examples
    return {"requestBody": {"required": True, "content": {_JSON: content}}}


def links(operations: dict[str, str]) -> dict[str, Any]:
    """What can be asked next about the job in a reply: names of operations by what they are."""
    return {
        name: {"operationId": operation, "parameters": {"job_id": "$response.body#/id"}}
        for name, operation in operations.items()
    }


ALWAYS: Replies = {
    401: problem("No API token, or one that is unknown or revoked"),
    403: problem("The token lacks the scope, or a web page of another origin asks"),
    421: problem("A Host header that does not mean this service"),
    429: problem("Too many requests, jobs or streams; see Retry-After"),
    503: problem("The database or the service cannot do it now; see Retry-After"),
}
OF_BODIES: Replies = {
    400: problem("Not strict JSON"),
    408: problem("The body did not arrive in time"),
    413: problem("More bytes than a body may have"),
    415: problem("Another content type than application/json"),
}
BELOW_FLOOR = problem(
    "A request that makes no sense, or that no plan can answer",
    code="ram_below_floor",
    detail="The RAM budget of 1024 bytes (1.00 KiB) is below the floor of 12292 bytes ...",
    hint="Give at least 12292 bytes, use a smaller batch.",
    kind="budget",
    floor_bytes=12292,
    op=4,
    status=422,
    title="Unprocessable Content",
    type="about:blank",
)
UNKNOWN_JOB = problem("No such job, or another token's: nobody can tell which")
PARAMETER = problem("A parameter that makes no sense")
NO_PLAN = problem("The job has no plan (yet)")
EVENTS: dict[str, Any] = {
    "description": "Server-sent events until the job has ended; a comment now and then meanwhile.",
    "content": {"text/event-stream": {"schema": ref("Event")}},
}
GONE: dict[str, Any] = {"description": "Erased"}
