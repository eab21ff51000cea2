"""Server-sent events: frames sent one after another, to a reader that takes them.

Nothing is queued for a reader: whoever makes the frames is asked for the next one when the last was
taken. One that takes nothing for `send_seconds` is dropped; one that went away is noticed at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractContextManager, ExitStack, aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from poet_core.errors import ServiceError
from poet_service import logs
from poet_service.problems import problem_response

HEARTBEAT = b": still here\n\n"
# What a browser waits before it connects again.
BEGINNING = b"retry: 1000\n\n"


def frame(event_id: str, kind: str, data: Mapping[str, Any]) -> bytes:
    """One event. JSON in ASCII holds no line break, so the data is one line."""
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps(dict(data))}\n\n".encode("ascii")


class EventStream(Response):
    """A response that sends `frames` until they end; `place` is held meanwhile."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        place: AbstractContextManager[None],
        send_seconds: float,
    ) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._frames, self._place, self._send_seconds = frames, place, send_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as held:
            try:
                held.enter_context(self._place)
            except ServiceError as refused:
                scope["poet_error_code"] = refused.code
                await problem_response(refused)(scope, receive, send)
                return
            await self._until_gone(receive, send)

    async def _until_gone(self, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send_all(send))
        going = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((sending, going), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, going):
                task.cancel()
            await asyncio.gather(sending, going, return_exceptions=True)
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )

        async def pass_on(text: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._send_seconds):
                await send({"type": "http.response.body", "body": text, "more_body": more})

        try:
            async with aclosing(self._frames) as frames:
                await pass_on(BEGINNING)
                async for text in frames:
                    await pass_on(text)
            await pass_on(b"", more=False)
        except (TimeoutError, ServiceError) as error:
            # Dropped: the server closes a connection whose response did not end, and a reader that
            # is still there comes back to where it was.
            logs.event("stream_dropped", error=getattr(error, "code", "slow_reader"))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
