"""What operators and their tools ask: does it live, can it work, what are the figures."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from poet_core.errors import ServiceError
from poet_service.metrics import CONTENT_TYPE
from poet_service.openapi import operations as described
from poet_service.routes.parts import Parts
from poet_service.routes.requests import json_response


def operation_routes(parts: Parts) -> APIRouter:
    """The routes of operators."""
    router = APIRouter()

    @router.get("/healthz", **described.HEALTH)
    async def health() -> Response:
        return json_response({"status": "ok"})

    @router.get("/readyz", **described.READY)
    async def ready() -> Response:
        await parts.threads.database(parts.store.ping)
        reason = parts.executor.ready()
        if reason is not None:
            raise ServiceError(
                f"The service cannot take work now: {reason}",
                code="not_ready",
                hint="Try again in a few seconds; the operator sees more in the log.",
            )
        return json_response({"status": "ready"})

    @router.get("/metrics", **described.METRICS)
    async def metrics() -> Response:
        text = await parts.threads.database(parts.metrics.render)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return router
