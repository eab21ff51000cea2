"""What operators and their tools ask: does it live, can it work, what are the figures."""

from __future__ import annotations

import time

from fastapi import APIRouter
from starlette.responses import Response

from poet_core.errors import ServiceError
from poet_service.metrics import CONTENT_TYPE
from poet_service.openapi import operations as described
from poet_service.routes.parts import Parts
from poet_service.routes.requests import json_response

_KEPT_SECONDS = 1.0


class _Readiness:
    """Whether work can be taken; anybody may ask, so the answer is kept for a moment."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._refused: ServiceError | None = None
        self._known_until = -1.0

    async def refused(self) -> ServiceError | None:
        """What speaks against it."""
        if time.monotonic() >= self._known_until:
            self._known_until = time.monotonic() + _KEPT_SECONDS
            self._refused = await self._look()
        return self._refused

    async def _look(self) -> ServiceError | None:
        try:
            await self._parts.threads.database(self._parts.store.ping)
        except ServiceError as error:
            return error
        reason = self._parts.executor.ready()
        if reason is None:
            return None
        return ServiceError(
            f"The service cannot take work now: {reason}",
            code="not_ready",
            hint="Try again in a few seconds; the operator sees more in the log.",
        )


def add_operation_routes(router: APIRouter, parts: Parts) -> None:
    """The routes of operators."""

    @router.get("/healthz", **described.HEALTH)
    async def health() -> Response:
        return json_response({"status": "ok"})

    readiness = _Readiness(parts)

    @router.get("/readyz", **described.READY)
    async def ready() -> Response:
        refused = await readiness.refused()
        if refused is not None:
            raise refused
        return json_response({"status": "ready"})

    @router.get("/metrics", **described.METRICS)
    async def metrics() -> Response:
        text = await parts.threads.database(parts.metrics.render)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})
