"""What surrounds every request: who may ask, security headers, one log line, the last resort.

One ASGI layer outside everything else, so that no reply and no failure goes around it:

    request id -> host -> origin (without tokens) -> token and scope -> rate -> the application

Who asks is in scope["poet_caller"] when the application is reached. The log never holds payloads:
method, route template, status, milliseconds, error code, job and request id.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from poet_core.errors import PoetError, ServiceError
from poet_core.text import printable
from poet_service import logs
from poet_service.metrics import Metrics
from poet_service.problems import problem_response
from poet_service.security.limits import RequestRate
from poet_service.security.origin import check_host, check_origin
from poet_service.security.tokens import STRANGER, Caller, TokenBook
from poet_service.settings import Settings

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

    def __init__(
        self, app: ASGIApp, *, settings: Settings, tokens: TokenBook, metrics: Metrics
    ) -> None:
        self._app, self._settings = app, settings
        self._tokens, self._metrics = tokens, metrics
        self._rate = RequestRate(
            per_second=settings.requests_per_second, burst=settings.request_burst
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # websockets: nobody serves them here
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, started = secrets.token_hex(16), time.perf_counter()
        status, answered = 0, None
        scope["poet_request_id"] = request_id
        logs.REQUEST_ID.set(request_id)

        async def send_shielded(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                headers = MutableHeaders(scope=message)
                headers.update(SECURITY_HEADERS)
                headers["x-request-id"] = request_id
            await send(message)

        try:
            with self._metrics.in_progress.track_inprogress():
                refused = await self._refusal(scope)
                app = self._app if refused is None else refused
                await app(scope, receive, send_shielded)
        except Exception as error:  # noqa: BLE001  The last resort: no traceback reaches a client.
            scope["poet_error_code"] = type(error).__name__
            logs.failure(error)
            if status == 0:
                await internal_failure(request_id)(scope, receive, send_shielded)
        finally:
            ended = time.perf_counter()
            route = getattr(scope.get("route"), "path", None)
            self._metrics.count_request(
                scope["method"], route, status, (answered or ended) - started
            )
            _log(scope, route, status, ended - started)

    async def _refusal(self, scope: Scope) -> Response | None:
        """The reply to who may not ask; else the caller is in the scope."""
        try:
            scope["poet_caller"] = await self._caller(scope)
        except PoetError as error:
            scope["poet_error_code"] = error.code
            return problem_response(error)
        return None

    async def _caller(self, scope: Scope) -> Caller:
        headers, closed = Headers(scope=scope), await self._tokens.closed()
        check_host(headers, self._settings, tokens=closed)
        if not closed:
            check_origin(headers, self._settings)
        caller = await self._tokens.identify(scope)
        if caller is not STRANGER:  # probes must not be turned away because others ask much
            self._rate.take(caller)
        return caller


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


def _log(scope: Scope, route: str | None, status: int, seconds: float) -> None:
    line: dict[str, Any] = {
        "method": printable(str(scope["method"]), 16),
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
    }
    caller: Caller | None = scope.get("poet_caller")
    if caller is not None and caller.token_id > 0:
        line["token_id"] = caller.token_id
    for name, key in (("job_id", "poet_job_id"), ("error", "poet_error_code")):
        if scope.get(key) is not None:
            line[name] = scope[key]
    logs.event("request", level=logging.INFO, **line)
