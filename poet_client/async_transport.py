"""Flows over httpx, for asyncio; see `transport`, whose bounds these are.

The two differ in `await` alone: what is asked, read and decided is in the flows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, TypeVar

import httpx

from poet_client import faults
from poet_client.address import Address
from poet_client.wire import Close, Effect, Emit, Flow, Open, Pause, Read, Reply, Send
from poet_client.wire_http import FAULTS, Body, arguments, media_type

_Value = TypeVar("_Value")


class AsyncConversation:
    """One flow at work, over connections that others may share."""

    def __init__(self, address: Address, client: httpx.AsyncClient) -> None:
        self._address, self._client = address, client
        self._stream: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def run(self, flow: Flow[_Value], heard: Callable[[Any], object]) -> _Value:
        """What the flow returns; `heard` gets what it emits."""
        outcome: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    effect = flow.send(outcome) if error is None else flow.throw(error)
                except StopIteration as done:
                    result: _Value = done.value
                    return result
                outcome, error = None, None
                try:
                    if isinstance(effect, Emit):
                        heard(effect.value)
                    else:
                        outcome = await self._perform(effect)
                except BaseException as caught:  # noqa: BLE001  The flow raises it again, or knows better.
                    error = caught
        finally:
            await self._end(flow)

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any, None]:
        """What the flow emits, one by one."""
        outcome: Any = None
        error: BaseException | None = None
        try:
            while True:
                try:
                    effect = flow.send(outcome) if error is None else flow.throw(error)
                except StopIteration:
                    return
                outcome, error = None, None
                if isinstance(effect, Emit):
                    yield effect.value
                    continue
                try:
                    outcome = await self._perform(effect)
                except BaseException as caught:  # noqa: BLE001  As above.
                    error = caught
        finally:
            await self._end(flow)

    async def _end(self, flow: Flow[Any]) -> None:
        flow.close()
        await self._close_stream()

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Send):
            return await self._send(effect)
        if isinstance(effect, Open):
            return await self._open(effect)
        if isinstance(effect, Read):
            return await self._read()
        if isinstance(effect, Close):
            return await self._close_stream()
        assert isinstance(effect, Pause)
        return await asyncio.sleep(effect.seconds)

    async def _send(self, effect: Send) -> Reply:
        ends, request = time.monotonic() + effect.timeout_seconds, effect.request
        built = arguments(self._address, request, effect.timeout_seconds)
        try:
            async with self._client.stream(**built) as response:
                return await self._whole(response, request.most_bytes, ends)
        except FAULTS as error:
            raise faults.of_exchange(self._address, error, effect.timeout_seconds) from error

    async def _whole(self, response: httpx.Response, most_bytes: int, ends: float) -> Reply:
        body = Body(self._address, response, most_bytes, ends)
        async for chunk in response.aiter_raw():
            body.add(chunk)
        return body.reply()

    async def _open(self, effect: Open) -> Reply | None:
        await self._close_stream()
        ends, request = time.monotonic() + effect.timeout_seconds, effect.request
        built = arguments(self._address, request, effect.timeout_seconds, effect.quiet_seconds)
        try:
            response = await self._client.send(self._client.build_request(**built), stream=True)
            self._stream = response
            if response.status_code == 200 and media_type(response) == "text/event-stream":
                faults.check_head(self._address, response, request.most_bytes)
                self._chunks = response.aiter_raw()
                return None
            reply = await self._whole(response, request.most_bytes, ends)
        except FAULTS as error:
            await self._close_stream()
            raise faults.of_exchange(self._address, error, effect.timeout_seconds) from error
        await self._close_stream()
        return reply

    async def _read(self) -> bytes:
        try:
            return b"" if self._chunks is None else await anext(self._chunks, b"")
        except FAULTS as error:
            await self._close_stream()
            raise faults.of_exchange(self._address, error, 0.0) from error

    async def _close_stream(self) -> None:
        stream, self._stream, self._chunks = self._stream, None, None
        if stream is not None:
            with contextlib.suppress(*FAULTS):
                await stream.aclose()
