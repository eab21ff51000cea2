"""A reader of server-sent events that keeps when each came: over a connection of its own, which it
may cut and resume, or never read from."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.service_http import Address, request_bytes

# The least that the kernel gives: what a slow reader lets it hold back for it.
_SMALL_BUFFER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Event:
    """Id, kind and data as the stream has them, and seconds from its writing to its arrival."""

    id: str
    kind: str
    text: str
    seconds: float

    @property
    def said(self) -> tuple[str, str, str]:
        """What every reader must see alike."""
        return self.id, self.kind, self.text


class StreamRefusedError(RuntimeError):
    """The service has no stream for this reader."""


async def events(address: Address, path: str, after: str, most: int | None = None) -> list[Event]:
    """The events after `after` until the stream ends, or `most` of them. Raises OSError where it is
    cut before its end, and StreamRefusedError."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    found: list[Event] = []
    try:
        writer.write(request_bytes("GET", path, headers={"Last-Event-ID": after}))
        status = await reader.readline()
        if b" 200 " not in status:
            raise StreamRefusedError(status.decode("latin-1").strip())
        await reader.readuntil(b"\r\n\r\n")
        received = b""
        while most is None or len(found) < most:
            size = int((await reader.readline()) or b"-1", 16)
            if size <= 0:
                if size < 0:
                    raise ConnectionResetError("The stream was cut.")
                break
            received += await reader.readexactly(size)
            await reader.readexactly(2)
            *frames, received = received.split(b"\n\n")
            found += filter(None, map(_event, frames))
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("The stream was cut.") from None
    finally:
        writer.transport.abort()
    return found if most is None else found[:most]


def _event(frame: bytes) -> Event | None:
    """None for a comment, or the pause to keep before one comes back."""
    fields = dict(
        line.split(": ", 1) for line in frame.decode("ascii").split("\n") if line[0] != ":"
    )
    if "data" not in fields:
        return None
    data: dict[str, Any] = json.loads(fields["data"])
    late = time.time() - float(data["at"]) if "at" in data else 0.0
    return Event(fields["id"], fields["event"], fields["data"], late)


def never_reading(address: Address, path: str) -> socket.socket:
    """A connection that asks for all events and takes none of them."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
    client.connect((address.host, address.port))
    client.sendall(request_bytes("GET", path))
    return client
