"""Connections on which nothing waits for ever: real sockets against a small application."""

import asyncio
import contextlib
import socket
import time

import pytest
import uvicorn

from poet_service.security.connections import guarded_protocol
from poet_service.settings import Settings

QUICK = {"header_seconds": 0.2, "stream_send_seconds": 0.2, "keep_alive_seconds": 5}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Served:
    """A server in this event loop, and its clients."""

    def __init__(self, app, **settings):
        self.app, self.settings = app, Settings(**(QUICK | settings))

    async def __aenter__(self):
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            self.app, http=guarded_protocol(self.settings), lifespan="off", log_config=None,
            limit_concurrency=self.settings.connections, access_log=False,
            timeout_keep_alive=self.settings.keep_alive_seconds, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        self.running = asyncio.ensure_future(self.server._serve([self.listener]))
        while not self.server.started:
            await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, *error):
        self.server.should_exit = True
        await self.running

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.listener.getsockname()[1])


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


async def ended(reader, within=5.0):
    """Seconds until the server ends the connection."""
    started = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        await asyncio.wait_for(reader.read(), within)
    return time.monotonic() - started


def test_headers_that_never_end():
    async def meet():
        async with Served(answer) as served:
            for sent in (b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\nX: "):
                reader, writer = await served.connect()
                writer.write(sent)
                assert 0.1 < await ended(reader) < 4
                writer.close()

    asyncio.run(meet())


def test_headers_that_come_drop_by_drop():
    async def meet():
        async with Served(answer) as served:
            reader, writer = await served.connect()

            async def drip():
                for byte in GET[:-2] * 100:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.05)

            dripping = asyncio.ensure_future(drip())
            assert await ended(reader) < 4
            dripping.cancel()
            writer.close()

    asyncio.run(meet())


def test_one_who_asks_again_in_time_is_answered():
    async def meet():
        async with Served(answer) as served:
            reader, writer = await served.connect()
            for _ in range(3):
                writer.write(GET)
                assert b"fine" in await reader.readuntil(b"fine")
                await asyncio.sleep(0.3)  # idle longer than headers may take: that is keep-alive's
            writer.close()

    asyncio.run(meet())


def test_a_long_answer_is_not_cut_by_the_headers_clock():
    async def slow(scope, receive, send):
        await asyncio.sleep(0.6)
        await answer(scope, receive, send)

    async def meet():
        async with Served(slow) as served:
            reader, writer = await served.connect()
            writer.write(GET)
            assert b"fine" in await reader.readuntil(b"fine")
            writer.close()

    asyncio.run(meet())


def test_a_refused_body_is_not_drained_for_ever():
    async def meet():
        async with Served(answer) as served:
            reader, writer = await served.connect()
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")

            async def send_on():
                while not writer.is_closing():
                    writer.write(b"1\r\n \r\n")
                    await asyncio.sleep(0.02)

            sending = asyncio.ensure_future(send_on())
            assert await ended(reader) < 4
            sending.cancel()
            writer.close()

    asyncio.run(meet())


def test_a_reader_that_takes_nothing_is_dropped():
    async def meet():
        gone = asyncio.Event()

        async def pour(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            pouring = asyncio.ensure_future(_pour(send))
            while (await receive())["type"] != "http.disconnect":
                pass
            pouring.cancel()
            gone.set()

        async def _pour(send):
            while True:
                await send({"type": "http.response.body", "body": b" " * 2**20, "more_body": True})

        async with Served(pour) as served:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(served.listener.getsockname())
            client.send(GET)
            await asyncio.wait_for(gone.wait(), 5)
            client.close()

    asyncio.run(meet())


class Transport:
    """Of which a test says how many bytes its reader has not taken."""

    def __init__(self):
        self.unread, self.aborted = 0, False

    def get_extra_info(self, name):
        return None

    def get_write_buffer_size(self):
        return self.unread

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True

    def resume_reading(self):
        pass


@pytest.mark.parametrize(
    ("looks", "dropped"),
    [
        ([0, 0, 0], False),  # nothing to take
        ([100, 100], True),
        ([100, 120], True),  # takes nothing while more comes
        ([100, 99, 98], False),  # slow, and takes something
        ([100, "resumed", 100], False),  # took much, and as much came
        ([100, "asks", 100], False),
        ([0, 100, 100], True),
    ],
)
def test_who_takes_something_is_not_dropped(looks, dropped):
    async def meet():
        loop, transport = asyncio.get_running_loop(), Transport()
        config = uvicorn.Config(answer, log_config=None, lifespan="off")
        config.load()
        protocol = guarded_protocol(Settings())(config, uvicorn.server.ServerState(), {}, loop)
        protocol.connection_made(transport)
        for look in looks:
            if look == "resumed":
                protocol.resume_writing()
            elif look == "asks":
                protocol.data_received(GET[:5])
            else:
                transport.unread = look
                protocol._watch_reader()
        protocol.connection_lost(ConnectionResetError())
        return transport.aborted

    assert asyncio.run(meet()) == dropped


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_a_problem(sent):
    async def meet():
        async with Served(answer) as served:
            reader, writer = await served.connect()
            writer.write(sent)
            reply = await asyncio.wait_for(reader.read(), 5)
            assert reply.startswith(b"HTTP/1.1 400")
            assert b"application/problem+json" in reply
            assert b'"code":"http_invalid"' in reply
            assert b"x-content-type-options" in reply
            writer.close()

    asyncio.run(meet())


def test_a_body_that_breaks_off_into_nonsense_ends_its_request():
    async def meet():
        ends = []

        async def swallow(scope, receive, send):
            while (message := await receive())["type"] == "http.request" and message["more_body"]:
                pass
            ends.append(message["type"])
            await answer(scope, receive, send)

        async with Served(swallow) as served:
            reader, writer = await served.connect()
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"not a chunk\r\n")
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 400")
            writer.close()
        assert ends == ["http.disconnect"]

    asyncio.run(meet())


def test_connections_are_bounded():
    async def meet():
        async with Served(answer, connections=1, header_seconds=5) as served:
            held = [await served.connect() for _ in range(17)]
            reader, extra = await served.connect()  # above the margin: cut without a word
            assert await ended(reader) < 4
            reader, writer = held[0]
            writer.write(GET)
            assert b"503" in await asyncio.wait_for(reader.readline(), 5)
            for _, writer in [*held, (None, extra)]:
                writer.close()

    asyncio.run(meet())
