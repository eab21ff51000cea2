"""A request body: bounded in bytes and time, application/json, read before anything is built.

Bytes and nodes are bounded before the parser runs, depth and counts while it does; the product of
ops and storages bounds the work of planning. The first bound holds for chunked bodies too: one that
is too large is read on and dropped, up to another such bound, so that a client that is still
sending gets to see the reply.
"""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from poet_core.documents import refuse
from poet_core.errors import DocumentError, ServiceError
from poet_core.graph import TrainingGraph
from poet_core.text import printable
from poet_service.settings import ServiceSettings


async def read_body(request: Request, settings: ServiceSettings) -> bytes:
    """The bytes of a JSON body. Raises DocumentError or ServiceError; nothing is parsed here."""
    _check_media_type(request)
    most = settings.limits.document_bytes
    body = bytearray()
    received = 0
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for chunk in request.stream():
                received += len(chunk)
                if received <= most:
                    body += chunk
                elif received > 2 * most:
                    break
    except TimeoutError:
        raise ServiceError(
            f"The request body did not arrive within {settings.body_seconds:g} seconds.",
            code="body_timeout",
            hint="Send a smaller document or use a faster connection.",
        ) from None
    except ClientDisconnect:
        raise ServiceError("The client went away.", code="client_gone") from None
    if received > most:
        raise DocumentError(
            f"Expected a body of at most {most} bytes, got more.",
            code="document_too_large",
            hint="Trace a smaller step, or plan locally.",
            details={"limit_bytes": most},
        )
    return bytes(body)


def check_nodes(body: bytes, settings: ServiceSettings) -> None:
    """Bound the values of a JSON text before they exist: `[[],[],...` needs 30 times its bytes."""
    nodes = body.count(b",") + body.count(b"[") + body.count(b"{")
    if nodes > settings.nodes:
        refuse("$", f"at most {settings.nodes} values", f"about {nodes}", code="limit_exceeded")


def check_product(graph: TrainingGraph, settings: ServiceSettings) -> None:
    """Bound what planning costs: models and floors grow with ops times storages."""
    product = len(graph.ops) * len(graph.storages)
    if product > settings.ops_times_storages:
        refuse("$.graph", f"at most {settings.ops_times_storages} ops times storages",
               f"{product}", code="limit_exceeded")  # fmt: skip


def _check_media_type(request: Request) -> None:
    sent = request.headers.get("content-type", "")
    media_type, _, parameters = sent.partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if media_type.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise ServiceError(
            f"Expected the content type application/json, got {printable(sent, 60)!r}.",
            code="unsupported_media_type",
            hint="Send 'Content-Type: application/json'.",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ServiceError(
            "Expected a body without content encoding.",
            code="unsupported_media_type",
            hint="Send plain JSON: a compressed body could unpack to any size.",
        )
