"""GuardedProtocol: HTTP/1.1 connections on which nothing waits for ever.

uvicorn bounds idle connections. Added here, for each connection: the time that a request's headers
may take (also: what is still sent after the answer), the time for which a reader may take nothing
of what was written to it, and how many connections there may be before a new one is cut at once.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.server import ServerState

from poet_core.errors import ServiceError
from poet_service.problems import problem_response
from poet_service.settings import Settings
from poet_service.shields import SECURITY_HEADERS


def guarded_protocol(settings: Settings) -> type[asyncio.Protocol]:
    """The protocol class for uvicorn, with the settings' limits."""

    class Guarded(GuardedProtocol):
        header_seconds = settings.header_seconds
        reader_seconds = settings.stream_send_seconds
        # Above `connections` uvicorn answers 503; above this nobody is answered.
        most_connections = settings.connections + max(16, settings.connections // 4)

    return Guarded


class GuardedProtocol(H11Protocol):
    """One connection."""

    header_seconds: float
    reader_seconds: float
    most_connections: int

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._header_timer: asyncio.TimerHandle | None = None
        self._reader_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            transport.abort()
            return
        self._watch_headers()
        self._reader_timer = self.loop.call_later(self.reader_seconds, self._watch_reader)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        for timer in (self._header_timer, self._reader_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        self._unread_bytes = 0  # whoever asks again reads
        super().data_received(data)
        self._watch_headers()

    def on_response_complete(self) -> None:
        """The answer was handed over."""
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # a refused body is still being sent
            self._watch_headers()

    def resume_writing(self) -> None:
        """The reader took something."""
        self._unread_bytes = 0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's words, not ours
        """What was sent is no HTTP."""
        answering = self._answering()
        if answering is not None:
            # Midway through a body: the application is told that its client has gone.
            answering.disconnected = True
            answering.message_event.set()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        reply = problem_response(
            ServiceError("What was sent is no HTTP.", code="http_invalid", hint="Speak HTTP/1.1."),
            headers=SECURITY_HEADERS | {"connection": "close"},
        )
        start = h11.Response(status_code=400, headers=reply.raw_headers, reason=b"Bad Request")
        for event in (start, h11.Data(data=bytes(reply.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _answering(self) -> RequestResponseCycle | None:
        """The request that is being answered."""
        last = cast("RequestResponseCycle | None", self.cycle)  # None before the first one
        return None if last is None or last.response_complete else last

    def _watch_headers(self) -> None:
        """Time what arrives outside of a request that is being answered."""
        if self._answering() is not None or self.transport.is_closing():
            if self._header_timer is not None:
                self._header_timer.cancel()
                self._header_timer = None
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _watch_reader(self) -> None:
        """Cut a reader that took nothing since the last look. Bytes that the kernel took count as
        taken: its buffers are small and its own."""
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread_bytes > 0:
            self.transport.abort()
            return
        self._unread_bytes = unread
        self._reader_timer = self.loop.call_later(self.reader_seconds, self._watch_reader)
