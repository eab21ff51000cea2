"""A client of HTTP/1.1 that costs little: requests are bytes made beforehand, answers are cut by
their Content-Length. One request at a time on a connection, which is kept.

It measures the service, so it does nothing else: no redirects, no retries, no decompression.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HEAD_ENDS = b"\r\n\r\n"
_ANSWER_SECONDS = 120.0


class ConnectionLostError(OSError):
    """The server closed the connection before the answer was whole."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Address:
        """Of `http://host:port`."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(host, int(port))


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, the head as it came, body."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value; None where there is none."""
        return _header(self.head, name.encode())

    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def request_bytes(
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
) -> bytes:
    """A whole request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (body or b"")


class Connection(asyncio.Protocol):
    """One connection; `ask` sends a request and waits for its answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._head: bytes | None = None
        self._body_bytes = 0
        self._waiting: asyncio.Future[Answer] | None = None
        self.is_open = False

    @classmethod
    async def to(cls, address: Address) -> Connection:
        """A new connection. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(
            cls, address.host, address.port
        )
        return connection

    async def ask(self, request: bytes, seconds: float = _ANSWER_SECONDS) -> Answer:
        """The answer to a request. Raises OSError and TimeoutError, and is closed then."""
        if self._transport is None or not self.is_open:
            raise ConnectionLostError("The connection is closed.")
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting = waiting
        self._transport.write(request)
        watch = asyncio.get_running_loop().call_later(seconds, self._give_up)
        try:
            return await waiting
        finally:
            watch.cancel()

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.is_open = transport, True

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone, or this one."""
        self.is_open = False
        self._end(exc or ConnectionLostError("The server closed the connection."))

    def data_received(self, data: bytes) -> None:
        """More of an answer."""
        self._received += data
        if self._head is None:
            end = self._received.find(_HEAD_ENDS)
            if end < 0:
                return
            self._head = bytes(self._received[:end])
            del self._received[: end + len(_HEAD_ENDS)]
            self._body_bytes = int(_header(self._head, b"content-length") or 0)
        if len(self._received) >= self._body_bytes:
            self._complete(self._head)

    def _complete(self, head: bytes) -> None:
        answer = Answer(int(head[9:12]), head, bytes(self._received[: self._body_bytes]))
        self._received.clear()
        self._head = None
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _give_up(self) -> None:
        self._end(TimeoutError("No answer in time."))
        self.close()

    def _end(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _header(head: bytes, name: bytes) -> str | None:
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return None
    line = head[start + 2 :].split(b"\r\n", 1)[0]
    return line.partition(b":")[2].strip().decode("latin-1")


async def ask_once(address: Address, request: bytes) -> Answer:
    """The answer to a request on a connection of its own. Raises OSError."""
    connection = await Connection.to(address)
    try:
        return await connection.ask(request)
    finally:
        connection.close()
