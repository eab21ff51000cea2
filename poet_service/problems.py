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
    DeviceError,
    DocumentError,
    GraphError,
    PlanningError,
    PoetError,
    ServiceError,
    UsageError,
)

MEDIA_TYPE = "application/problem+json"

# Where a class has more than one status, the code decides.
_STATUS_OF_CODE: Mapping[str, int] = {
    "document_too_large": 413,
    "document_too_deep": 400,
    "document_not_json": 400,
    "duplicate_key": 400,
    "not_finite": 400,
    "unsupported_media_type": 415,
    "body_timeout": 408,
    "busy": 429,
    "plan_unknown": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "host_not_allowed": 421,
    "internal": 500,
    "none_in_this_model": 422,  # more time would not change it
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


def problem_response(
    error: PoetError, *, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The reply for an error of the tree. `status` overrides the table (404 for a lookup)."""
    kind, by_class = next(
        ((kind, code) for cls, kind, code in _KINDS if isinstance(error, cls)), ("internal", 500)
    )
    if status is None:
        status = _STATUS_OF_CODE.get(error.code, by_class)
    document = error.to_document() | {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "kind": kind,
    }
    return Response(
        json_bytes(document), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def json_bytes(document: object) -> bytes:
    """JSON in ASCII in which no string can be taken for HTML, whoever shows it as what."""
    text = canonical_json(document)
    for character in b"<>&'":
        text = text.replace(bytes([character]), b"\\u%04x" % character)
    return text
