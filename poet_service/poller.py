"""One poller a process: whoever waits for news of a solve waits here, however many they are.

    waiters   {solve: seq that it has seen} each
    poller    one query for all solves that anybody waits for: when told of a change (the embedded
              executor tells at once), else every `seconds`; none while nobody waits

Invariant: a waiter wakes when a solve of its own has an event after the seq that it named, when
somebody nudges that solve, or after its time. What is told while it is not waiting yet wakes it at
once, whosever solve it is: it looks once more than it had to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from poet_core.errors import ServiceError
from poet_service import logs
from poet_service.jobs.records import SolveRecord

# Changes that arrive together cost one query.
_TOGETHER_SECONDS = 0.002

Changed = Callable[[Mapping[str, int]], Awaitable[Mapping[str, SolveRecord]]]


@dataclass(eq=False, slots=True)
class _Waiter:
    seqs: Mapping[str, int]
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Poller:
    """Used from one event loop, except `notify`."""

    def __init__(self, changed: Changed, *, seconds: float) -> None:
        self._changed, self._seconds = changed, seconds
        self._waiters: dict[str, set[_Waiter]] = {}
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._told = 0

    @property
    def mark(self) -> int:
        """Taken before looking at a job: what is told between the look and the wait is not missed."""
        return self._told

    async def news(self, seqs: Mapping[str, int], seconds: float, *, mark: int) -> bool:
        """Wait at most `seconds` for an event of one of the solves after its seq in `seqs`, or for
        anything that was told since `mark`. Whether there may be one."""
        if self._closed:
            return False
        if mark != self._told:
            return True
        waiter = _Waiter(seqs)
        for solve_id in seqs:
            self._waiters.setdefault(solve_id, set()).add(waiter)
        self._ensure_polling()
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken.wait()
        except TimeoutError:
            return False
        finally:
            self._forget(waiter)
        return not self._closed

    @property
    def closed(self) -> bool:
        """Whether the service is ending: nobody waits any more."""
        return self._closed

    def notify(self, solve_id: str) -> None:
        """A solve has changed. Called from any thread, in vain where nobody waits."""
        self._told += 1
        loop = self._loop
        if loop is not None and solve_id in self._waiters:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._kick.set)

    def nudge(self, solve_ids: Iterable[str]) -> None:
        """Wake whoever waits for these solves: not the solve changed, but a job of it."""
        self._told += 1
        for solve_id in solve_ids:
            for waiter in self._waiters.get(solve_id, ()):
                waiter.woken.set()

    def end(self) -> None:
        """Wake everybody, for the last time."""
        self._closed = True
        self.nudge(tuple(self._waiters))

    async def close(self) -> None:
        """The same, and be gone."""
        self.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _ensure_polling(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._poll(), name="poet-poller")

    def _forget(self, waiter: _Waiter) -> None:
        for solve_id in waiter.seqs:
            waiting = self._waiters.get(solve_id)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiters[solve_id]

    async def _poll(self) -> None:
        while self._waiters:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._kick.wait()
                    await asyncio.sleep(_TOGETHER_SECONDS)
            self._kick.clear()
            try:
                await self._look()
            except ServiceError as error:  # the database is away; waiters have their own time
                logs.event("poll_failed", error=error.code)

    async def _look(self) -> None:
        since = {
            solve_id: min(waiter.seqs[solve_id] for waiter in waiting)
            for solve_id, waiting in self._waiters.items()
        }
        if not since:
            return
        for solve_id, record in (await self._changed(since)).items():
            for waiter in self._waiters.get(solve_id, ()):
                if record.last_seq > waiter.seqs[solve_id]:
                    waiter.woken.set()
