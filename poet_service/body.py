"""A request body: bounded in bytes and time, application/json, read before anything is built.

Bytes and values are bounded before the parser runs, depth and counts while it does; the product of
ops and storages bounds the work of planning. The first bound holds for chunked bodies too: one that
is too large is read on and dropped, up to another such bound, so that a client that is still
sending gets to see the reply. All bodies together are bounded in bytes, not in number: a client
that sends slowly holds what it has sent and nobody's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from poet_core.documents import refuse
from poet_core.errors import DocumentError, ServiceError
from poet_core.graph import TrainingGraph
from poet_core.text import printable
from poet_service.security.limits import ByteBudget
from poet_service.settings import Settings


class Bodies:
    """Reads the bodies of one process. Used from the event loop only."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._budget = ByteBudget(
            most_bytes=settings.buffered_bytes, retry_after_seconds=settings.retry_after_seconds
        )

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies in memory now."""
        return self._budget.held_bytes

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The bytes of a JSON body, counted until the block ends; nothing is parsed yet. Raises
        DocumentError or ServiceError."""
        _check_media_type(request)
        body = bytearray()
        try:
            await self._fill(body, request)
            yield bytes(body)
        finally:
            self._budget.give_back(len(body))

    async def _fill(self, body: bytearray, request: Request) -> None:
        most, received = self._settings.body_bytes, 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                async for chunk in request.stream():
                    received += len(chunk)
                    if received <= most:
                        self._budget.take(len(chunk))
                        body += chunk
                    elif received > 2 * most:
                        break
        except TimeoutError:
            raise ServiceError(
                f"The request body did not arrive within {self._settings.body_seconds:g} seconds.",
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


def check_nodes(body: bytes | bytearray, settings: Settings) -> None:
    """Bound the values of a JSON text before they exist: `[[],[],...` needs 30 times its bytes."""
    nodes = body.count(b",") + body.count(b"[") + body.count(b"{")
    if nodes > settings.nodes:
        refuse("$", f"at most {settings.nodes} values", f"about {nodes}", code="limit_exceeded")


def check_product(graph: TrainingGraph, settings: Settings) -> None:
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
