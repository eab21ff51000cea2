"""A server that answers every request with the same bytes from memory: what a generator of load
reaches when the server takes next to nothing. `python -m benchmarks.service_echo BYTES`"""

from __future__ import annotations

import asyncio
import sys


class _Echo(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer, self._received = answer, bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        head, end, body = bytes(self._received).partition(b"\r\n\r\n")
        _, found, rest = head.partition(b"Content-Length: ")
        if end and len(body) >= (int(rest.split(b"\r\n")[0]) if found else 0):
            self._received.clear()
            self._transport.write(self._answer)


async def _serve(answer: bytes) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Echo(answer), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    """Serve until told to end."""
    size_bytes = int(sys.argv[1])
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size_bytes}\r\n\r\n".encode("ascii")
    asyncio.run(_serve(head + b"x" * size_bytes))


if __name__ == "__main__":
    main()
