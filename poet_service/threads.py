"""Where blocking work goes, so that the event loop never waits for a disk or a judge.

    database    calls of the store: many, short, mostly waiting
    work        parsing and judging: few at once, for each takes a core

Whoever waits in line holds a connection and, with a body, bytes of the service's budget: both are
bounded, and so is the line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


class Threads:
    """The two pools of a process. Threads start when there is work for them."""

    def __init__(self, *, database: int, work: int) -> None:
        self._database = ThreadPoolExecutor(database, "poet-database")
        self._work = ThreadPoolExecutor(work, "poet-work")

    async def database(
        self, call: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs
    ) -> _Result:
        """The result of a call of the store."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._database, lambda: call(*given, **named))

    async def work(
        self, call: Callable[_Given, _Result], *given: _Given.args, **named: _Given.kwargs
    ) -> _Result:
        """The result of something that takes a core."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._work, lambda: call(*given, **named))

    def close(self) -> None:
        """Let go of the threads; what runs in them ends first."""
        self._work.shutdown(cancel_futures=True)
        self._database.shutdown(cancel_futures=True)
