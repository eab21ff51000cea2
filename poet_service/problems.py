"""Errors as application/problem+json (RFC 9457), always with a machine-readable `code`.

`kind` names the branch of the error tree (poet_core.errors), so that a client can raise the same
error here as there. Details carry numbers and printable names; nothing internal leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from poet_core.documents import canonical_json
from poet_core.errors import (
    BudgetError,
    Detail,
    DeviceError,
    DocumentError,
    GraphError,
    PlanningError,
    PoetError,
    ServiceError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"
# Without a better guess: databases come back, disks are made room on, in seconds at the earliest.
_RETRY_AFTER_SECONDS = 5

# Where a class has more than one status, the code decides.
STATUS_OF_CODE: Mapping[str, int] = {
    "document_too_large": 413,
    "document_too_deep": 400,
    "document_not_json": 400,
    "duplicate_key": 400,
    "not_finite": 400,
    "token_missing": 401,
    "token_unknown": 401,
    "scope_missing": 403,
    "origin_not_allowed": 403,
    "not_found": 404,
    "plan_unknown": 404,
    "frontier_unknown": 404,
    "solve_unknown": 404,  # erased between two looks
    "cursor_unknown": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "no_plan_yet": 409,
    "no_plan": 409,
    "stored_plan_invalid": 409,
    "unsupported_media_type": 415,
    "host_not_allowed": 421,
    "idempotency_conflict": 422,
    "parameter_invalid": 422,
    "busy": 429,
    "queue_full": 429,
    "too_many_jobs": 429,
    "too_many_requests": 429,
    "too_many_streams": 429,
    "internal": 500,
    "database_unavailable": 503,
    "database_conflict": 503,
    "database_corrupted": 503,
    "database_refused": 503,
    "storage_full": 503,
    "storage_read_only": 503,
    "not_ready": 503,
}
_CHALLENGES: Mapping[str, str] = {
    "token_missing": 'Bearer realm="poet"',
    "token_unknown": 'Bearer realm="poet", error="invalid_token"',
    "scope_missing": 'Bearer realm="poet", error="insufficient_scope"',
}
_KINDS: tuple[tuple[type[PoetError], str, int], ...] = (
    (DocumentError, "document", 422),
    (GraphError, "graph", 422),
    (DeviceError, "device", 422),
    (BudgetError, "budget", 422),
    (UsageError, "usage", 422),
    # The request was good; this planner had no plan in this time.
    (PlanningError, "planning", 504),
    (ServiceError, "service", 400),
)


def error_document(error: PoetError) -> dict[str, Detail]:
    """An error as JSON with the branch of the tree that it is of: what replies and failed solves
    carry."""
    return error.to_document() | {"kind": _kind(error)[0]}


def problem_response(
    error: PoetError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The reply for an error of the tree. `status` overrides the table (404 for a lookup).
    Retry-After and WWW-Authenticate come by themselves."""
    if status is None:
        status = STATUS_OF_CODE.get(error.code, _kind(error)[1])
    sent = dict(headers or {})
    retry_after = error.details.get("retry_after_seconds")
    if retry_after is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_after = _RETRY_AFTER_SECONDS
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    if error.code in _CHALLENGES:
        sent["WWW-Authenticate"] = _CHALLENGES[error.code]
    document = error_document(error) | {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
    }
    return Response(json_bytes(document), status_code=status, media_type=MEDIA_TYPE, headers=sent)


def _kind(error: PoetError) -> tuple[str, int]:
    return next(
        ((kind, status) for cls, kind, status in _KINDS if isinstance(error, cls)),
        ("internal", 500),
    )


def json_bytes(document: object) -> bytes:
    """JSON in ASCII in which no string can be taken for HTML, whoever shows it as what."""
    text = canonical_json(document)
    for character in b"<>&'":
        text = text.replace(bytes([character]), b"\\u%04x" % character)
    return text
