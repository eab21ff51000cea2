"""What the description says of /v1/plans."""

from __future__ import annotations

from typing import Any

from poet_service.openapi.examples import EXAMPLES
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
    problem,
)
from poet_service.openapi.replies import (
    EVENTS as EVENT_STREAM,
)

_NEXT = links(
    {
        "job": "getPlanJob",
        "plan": "getPlan",
        "log": "getPlanLog",
        "events": "followPlanJob",
        "stop": "stopPlanJob",
    }
)
_ONE: dict[str, Any] = {"tags": ["plans"]}

SUBMIT: dict[str, Any] = _ONE | {
    "operation_id": "submitPlan",
    "summary": "Ask for a plan of a training step",
    "description": "The answer at once where it is stored; else a job, after `wait` seconds or its "
    "end. `Prefer: wait=N` says the same.",
    "status_code": 202,
    "openapi_extra": body("PlanRequest", EXAMPLES),
    "responses": {
        200: json_reply("The job has ended", "PlanJob", headers=location(), links=_NEXT),
        202: json_reply("Somebody will work on it", "PlanJob", headers=location(), links=_NEXT),
        **OF_BODIES,
        422: BELOW_FLOOR,
        **ALWAYS,
    },
}
LIST: dict[str, Any] = _ONE | {
    "operation_id": "listJobs",
    "summary": "This token's jobs, newest first, without their plans",
    "responses": {
        200: json_reply("A page", "JobList"),
        404: problem("The job to begin after does not exist any more"),
        422: PARAMETER,
        **ALWAYS,
    },
}
VALIDATE: dict[str, Any] = _ONE | {
    "operation_id": "validatePlan",
    "summary": "Sizes, the RAM floor and lower bounds of a request; nothing is planned",
    "openapi_extra": body("PlanRequest", EXAMPLES),
    "responses": {
        200: json_reply("What is known without planning", "Examination"),
        **OF_BODIES,
        422: BELOW_FLOOR,
        **ALWAYS,
    },
}
VERIFY: dict[str, Any] = _ONE | {
    "operation_id": "verifyPlan",
    "summary": "The judge on a plan that you have",
    "openapi_extra": body("VerifyRequest", {}),
    "responses": {
        200: json_reply("Whether the judge accepts it, and the figures", "Verdict"),
        **OF_BODIES,
        422: BELOW_FLOOR,
        **ALWAYS,
    },
}
GET: dict[str, Any] = _ONE | {
    "operation_id": "getPlanJob",
    "summary": "A job as it stands, with its best plan so far",
    "responses": {
        200: json_reply("The job", "PlanJob"), 404: UNKNOWN_JOB, 422: PARAMETER, **ALWAYS,
    },
}  # fmt: skip
DELETE: dict[str, Any] = _ONE | {
    "operation_id": "stopPlanJob",
    "summary": "Stop a job and keep its best plan; or erase it",
    "responses": {
        200: json_reply("The job as it stays", "PlanJob"),
        204: GONE,
        404: UNKNOWN_JOB,
        422: PARAMETER,
        **ALWAYS,
    },
}
EVENTS: dict[str, Any] = _ONE | {
    "operation_id": "followPlanJob",
    "summary": "A job's events as they come",
    "responses": {200: EVENT_STREAM, 404: UNKNOWN_JOB, 422: PARAMETER, **ALWAYS},
}
PLAN: dict[str, Any] = _ONE | {
    "operation_id": "getPlan",
    "summary": "The plan document alone",
    "responses": {
        200: json_reply("poet.plan/1, judged", "Plan"), 404: UNKNOWN_JOB, 409: NO_PLAN, **ALWAYS,
    },
}  # fmt: skip
LOG: dict[str, Any] = _ONE | {
    "operation_id": "getPlanLog",
    "summary": "What the planner has written, from a byte on",
    "responses": {200: json_reply("A part", "Log"), 404: UNKNOWN_JOB, 422: PARAMETER, **ALWAYS},
}
