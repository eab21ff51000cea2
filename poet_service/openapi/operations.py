"""What the description says of /healthz, /readyz and /metrics."""

from __future__ import annotations

from typing import Any

from poet_service.openapi.replies import ALWAYS, json_reply, problem

_ONE: dict[str, Any] = {"tags": ["operations"]}
_HOST = {421: ALWAYS[421]}

HEALTH: dict[str, Any] = _ONE | {
    "operation_id": "getHealth",
    "summary": "Does the process live?",
    "responses": {200: json_reply("It does", "Status"), **_HOST},
}
READY: dict[str, Any] = _ONE | {
    "operation_id": "getReadiness",
    "summary": "Do database and executor take work?",
    "responses": {
        200: json_reply("They do", "Status"), 503: problem("One does not, and which"), **_HOST,
    },
}  # fmt: skip
METRICS: dict[str, Any] = _ONE | {
    "operation_id": "getMetrics",
    "summary": "Figures for Prometheus",
    "responses": {
        200: {"description": "Prometheus' text format",
              "content": {"text/plain": {"schema": {"type": "string"}}}},
        **ALWAYS,
    },
}  # fmt: skip
