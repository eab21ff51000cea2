"""What surrounds every request: the host check, security headers, one log line, the last resort.

One ASGI layer outside everything else, so that no reply and no failure goes around it. The log
never holds payloads: method, route template, status, milliseconds, error code and request id.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poet_core.errors import ServiceError
from poet_core.text import printable
from poet_service.problems import problem_response
from poet_service.store import new_id

LOGGER = logging.getLogger("poet_service")

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Shields:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: frozenset[str] | None) -> None:
        self._app, self._allowed_hosts = app, allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # websockets: nobody serves them here
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, started, status = new_id(), time.perf_counter(), 0
        scope["poet_request_id"] = request_id

        async def send_shielded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers["x-request-id"] = request_id
            await send(message)

        failure: str | None = None
        try:
            refused = self._refused_host(scope)
            if refused is not None:
                await problem_response(refused)(scope, receive, send_shielded)
            else:
                await self._app(scope, receive, send_shielded)
        except Exception as error:  # noqa: BLE001  The last resort: no traceback reaches a client.
            failure = type(error).__name__
            LOGGER.error("%s", json.dumps(_trace(error, request_id)))  # noqa: TRY400  See _trace.
            if status == 0:
                await internal_failure(request_id)(scope, receive, send_shielded)
        finally:
            _log(scope, request_id, status, time.perf_counter() - started, failure)

    def _refused_host(self, scope: Scope) -> ServiceError | None:
        if self._allowed_hosts is None:
            return None
        host = Headers(scope=scope).get("host", "")
        name = host if host.endswith("]") else host.rsplit(":", 1)[0]
        if name.lower() in self._allowed_hosts:
            return None
        return ServiceError(
            f"Expected a Host header of {sorted(self._allowed_hosts)}, got {printable(host, 60)!r}.",
            code="host_not_allowed",
            hint="Use the address that the service printed, or start it with --allow-remote.",
        )


def internal_failure(request_id: str) -> Response:
    """The reply to what nobody foresaw."""
    return problem_response(
        ServiceError(
            "Something unexpected happened in the service; it is in the service's log.",
            code="internal",
            hint=f"Report it with the request id {request_id}.",
            details={"request_id": request_id},
        )
    )


def _trace(error: Exception, request_id: str) -> dict[str, Any]:
    """Where it happened, without the message, which may quote a payload."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "event": "failure",
        "request_id": request_id,
        "error": getattr(error, "code", type(error).__name__),
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _log(scope: Scope, request_id: str, status: int, seconds: float, failure: str | None) -> None:
    route = scope.get("route")
    line: dict[str, Any] = {
        "event": "request",
        "request_id": request_id,
        "method": printable(str(scope["method"]), 16),
        "route": getattr(route, "path", None),
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    code = scope.get("poet_error_code")
    if code or failure:
        line["error"] = failure or code
    LOGGER.info("%s", json.dumps(line))
