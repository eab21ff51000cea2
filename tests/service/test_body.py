"""Bodies: together bounded in bytes, each in bytes and time; nothing stays held."""

import asyncio

import pytest

from poet_core.errors import DocumentError, PoetError, ServiceError
from poet_service.body import Bodies
from poet_service.settings import Settings


class Asking:
    """A request whose chunks come after pauses."""

    def __init__(self, chunk, *, chunks=1, pause=0.0, content_type="application/json"):
        self.headers = {"content-type": content_type}
        self.chunk, self.chunks, self.pause = chunk, chunks, pause

    async def stream(self):
        for _ in range(self.chunks):
            await asyncio.sleep(self.pause)
            yield self.chunk


async def read(bodies, request):
    async with bodies.read(request) as body:
        return len(body)


def make_bodies(**settings):
    return Bodies(Settings(body_bytes=4096, buffered_bytes=8192, **settings))


def test_slow_clients_hold_what_they_sent_and_nobodys_place():
    async def meet():
        bodies = make_bodies(body_seconds=0.3)
        slow = [
            asyncio.ensure_future(read(bodies, Asking(b" " * 10, chunks=1000, pause=0.02)))
            for _ in range(50)
        ]
        await asyncio.sleep(0.05)
        assert 50 <= bodies.held_bytes <= 50 * 10 * 5
        assert await read(bodies, Asking(b" " * 1024, chunks=4)) == 4096
        ends = await asyncio.gather(*slow, return_exceptions=True)
        assert {end.code for end in ends} == {"body_timeout"}
        assert bodies.held_bytes == 0

    asyncio.run(meet())


def test_more_than_all_bodies_may_hold_is_a_429():
    async def meet():
        bodies = make_bodies()
        async with bodies.read(Asking(b" " * 4096)), bodies.read(Asking(b" " * 4096)):
            with pytest.raises(ServiceError) as caught:
                await read(bodies, Asking(b" "))
            assert caught.value.code == "busy"
            assert caught.value.details["retry_after_seconds"] >= 1
        assert await read(bodies, Asking(b" ")) == 1
        assert bodies.held_bytes == 0

    asyncio.run(meet())


def test_a_body_that_is_too_large_holds_no_more_than_one_may():
    async def meet():
        bodies = make_bodies()
        for size in (4097, 2**20):
            with pytest.raises(DocumentError) as caught:
                await read(bodies, Asking(b" " * size, chunks=3))
            assert caught.value.code == "document_too_large"
        assert bodies.held_bytes == 0

    asyncio.run(meet())


def test_a_block_that_fails_gives_its_bytes_back():
    async def meet():
        bodies = make_bodies()
        with pytest.raises(ZeroDivisionError):
            async with bodies.read(Asking(b"{}")):
                raise ZeroDivisionError
        assert bodies.held_bytes == 0

    asyncio.run(meet())


@pytest.mark.parametrize("content_type", ["", "text/json", "application/json;charset=utf-16"])
def test_what_is_not_json_is_not_read(content_type):
    async def meet():
        bodies = make_bodies()
        with pytest.raises(PoetError) as caught:
            await read(bodies, Asking(b"{}", pause=60, content_type=content_type))
        assert caught.value.code == "unsupported_media_type"

    asyncio.run(meet())
