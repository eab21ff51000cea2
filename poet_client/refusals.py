"""A server's refusal (problem+json, or a failed job's error) as the error that planning here would
raise. Its words are a stranger's: bounded, and shown harmlessly."""

from __future__ import annotations

from typing import Any

from poet_client.wire import Reply
from poet_core.documents import Limits, parse_json
from poet_core.errors import (
    BudgetError,
    DeviceError,
    DocumentError,
    GraphError,
    PlanError,
    PlanningError,
    PoetError,
    ServiceError,
    UsageError,
)
from poet_core.text import printable

_ERRORS: dict[str, type[PoetError]] = {
    "document": DocumentError,
    "graph": GraphError,
    "device": DeviceError,
    "budget": BudgetError,
    "usage": UsageError,
    "planning": PlanningError,
    "plan": PlanError,
}
_KNOWN = frozenset({"code", "detail", "hint", "kind", "title", "type"})
_LIMITS = Limits(document_bytes=2**20, depth=4)


def refusal(reply: Reply) -> PoetError:
    """What an answer that is no success says."""
    try:
        document = parse_json(reply.body, _LIMITS)
    except DocumentError:
        document = None
    return error_of(document, reply.status)


def error_of(document: Any, status: int | None = None) -> PoetError:
    """The error in an error document."""
    about: dict[str, str | int | float | bool | None] = {} if status is None else {"status": status}
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        with_status = "" if status is None else f" with status {status}"
        return ServiceError(
            f"The server answered{with_status} and gave no reason.",
            code="server_answer_invalid",
            hint="Is this address a planning service?",
            details=about,
        )
    details = {
        printable(key, 40): printable(value, 200) if isinstance(value, str) else value
        for key, value in list(document.items())[:32]
        if key not in _KNOWN and (value is None or isinstance(value, str | int | float | bool))
    }
    error_type = _ERRORS.get(str(document.get("kind")), ServiceError)
    return error_type(
        printable(str(document.get("detail", "")), 600),
        code=printable(document["code"], 60),
        hint=printable(str(document.get("hint", "")), 300),
        details=details | about,
    )
