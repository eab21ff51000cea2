"""What the description says of /v1/frontiers."""

from __future__ import annotations

from typing import Any

from poet_service.openapi.examples import FRONTIER_EXAMPLES
from poet_service.openapi.replies import (
    ALWAYS,
    BELOW_FLOOR,
    GONE,
    NO_PLAN,
    OF_BODIES,
    PARAMETER,
    UNKNOWN_JOB,
    body,
    json_reply,
    links,
    location,
)
from poet_service.openapi.replies import (
    EVENTS as EVENT_STREAM,
)

_NEXT = links({"job": "getFrontier", "events": "followFrontier", "stop": "stopFrontier"})
_ONE: dict[str, Any] = {"tags": ["frontiers"]}

SUBMIT: dict[str, Any] = _ONE | {
    "operation_id": "submitFrontier",
    "summary": "Ask for plans of one step under several RAM budgets",
    "status_code": 202,
    "openapi_extra": body("FrontierRequest", FRONTIER_EXAMPLES),
    "responses": {
        200: json_reply("All points have ended", "FrontierJob", headers=location(), links=_NEXT),
        202: json_reply("Some are to be solved", "FrontierJob", headers=location(), links=_NEXT),
        **OF_BODIES,
        422: BELOW_FLOOR,
        **ALWAYS,
    },
}
GET: dict[str, Any] = _ONE | {
    "operation_id": "getFrontier",
    "summary": "The points as far as they are known",
    "responses": {
        200: json_reply("The job", "FrontierJob"), 404: UNKNOWN_JOB, 422: PARAMETER, **ALWAYS,
    },
}  # fmt: skip
DELETE: dict[str, Any] = _ONE | {
    "operation_id": "stopFrontier",
    "summary": "Stop all points and keep what there is; or erase the job",
    "responses": {
        200: json_reply("The job as it stays", "FrontierJob"),
        204: GONE,
        404: UNKNOWN_JOB,
        422: PARAMETER,
        **ALWAYS,
    },
}
EVENTS: dict[str, Any] = _ONE | {
    "operation_id": "followFrontier",
    "summary": "The events of all points as they come",
    "responses": {200: EVENT_STREAM, 404: UNKNOWN_JOB, 422: PARAMETER, **ALWAYS},
}
PLAN: dict[str, Any] = _ONE | {
    "operation_id": "getFrontierPlan",
    "summary": "The plan document of one point",
    "responses": {
        200: json_reply("poet.plan/1, judged", "Plan"),
        404: UNKNOWN_JOB,
        409: NO_PLAN,
        422: PARAMETER,
        **ALWAYS,
    },
}
