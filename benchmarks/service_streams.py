"""One solve, and many who watch it: each reader must see the same events, whoever else reads.

A solve of a large step runs for some seconds. So that there is much to see, sentences are written
beside its own events, by the way that its supervisor writes them. One reader goes away in the
middle and comes back with the last id that it got. One asks for everything and takes nothing: the
service must drop it, and nobody else may notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.service_figures import Figure
from benchmarks.service_http import Address, Connection, request_bytes
from benchmarks.service_load import percentile
from benchmarks.service_problems import body_of, large_request
from benchmarks.service_process import Service, service, watched
from benchmarks.service_sse import Event, events, never_reading
from poet_service.database.engine import open_store
from poet_service.database.store import Store
from poet_service.jobs.states import SolveState

_MB = 10**6
_SEND_SECONDS = 2.0
# Two looks of the guard at a connection, and the time until its buffers are full.
_DROPPED_SECONDS = 3 * _SEND_SECONDS + 2
_EVENTS_A_SECOND = 10
_SENTENCE = "A sentence about the solve. " * 64
_BEGINS_SECONDS = 60.0
# Enough to fill what the kernel holds back for a reader.
_HISTORY = 2500
_ANONYMOUS = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watched:
    """A running solve and the job that points at it."""

    job_id: str
    solve_id: str
    attempt: int

    @property
    def path(self) -> str:
        """Of its events."""
        return f"/v1/plans/{self.job_id}/events"


def streams(readers: int, seconds: float) -> list[Figure]:
    """So many readers of a solve of so many seconds."""
    return asyncio.run(_streams(readers, seconds))


async def _streams(readers: int, seconds: float) -> list[Figure]:
    places = readers + 16
    settings = {
        "streams": places,
        "streams_per_token": places,
        "stream_send_seconds": _SEND_SECONDS,
    }
    with service(settings) as served, _opened(served) as store:
        seen = await _begun(served, store, seconds)
        for number in range(_HISTORY):
            store.progress(seen.solve_id, seen.attempt, f"{number}: {_SENTENCE}", 0.0)
        after = str(store.events(seen.solve_id, 0, 5000)[-1].seq)
        async with watched(served.process.pid) as memory, _dropped(served.address, seen) as slow:
            talking = asyncio.create_task(_talk(store, seen))
            found = await asyncio.gather(
                _resumed(served.address, seen.path, after),
                *(events(served.address, seen.path, after) for _ in range(readers - 1)),
            )
            await talking
        return [
            *_figures(found, after, slow),
            Figure(what="RAM of the API process at most", value=served.peak_bytes() / _MB,
                   unit="MB"),
            Figure(what="RAM of the API process, half of the time at most",
                   value=percentile(list(map(float, memory.api_bytes)), 0.5) / _MB, unit="MB"),
        ]  # fmt: skip


def _figures(found: list[list[Event]], after: str, slow: list[float]) -> list[Figure]:
    readers = len(found)
    first = [event.said for event in found[-1]]
    alike = sum([event.said for event in one] == first for one in found)
    numbers = list(range(int(after) + 1, int(after) + 1 + len(first)))
    whole = [int(number) for number, _, _ in first] == numbers and first[-1][1] == "done"
    late = [event.seconds for one in found for event in one]
    return [
        Figure(what="readers of one solve that saw the same events to its end", value=alike,
               least=readers, most=readers),
        Figure(what="of them, gone in the middle and resumed", value=1),
        Figure(what="events that each saw", value=len(first), least=10),
        Figure(what="all of them, in order, none twice (1: yes)", value=int(whole), least=1,
               most=1),
        Figure(what="from an event's writing to its reader, half",
               value=percentile(late, 0.5) * 1e3, unit="ms"),
        Figure(what="from an event's writing to its reader, 99 %",
               value=percentile(late, 0.99) * 1e3, unit="ms"),
        Figure(what="a reader that took nothing was dropped after",
               value=slow[0] if slow else 1e9, unit="s", most=_DROPPED_SECONDS),
    ]  # fmt: skip


@contextlib.contextmanager
def _opened(served: Service) -> Iterator[Store]:
    store = open_store(f"sqlite:///{served.state_dir / 'poet.sqlite3'}")
    try:
        yield store
    finally:
        store.close()


async def _begun(served: Service, store: Store, seconds: float) -> _Watched:
    """The solve of a large step, once it runs."""
    request = replace(large_request(), wall_seconds=seconds, patience_seconds=seconds)
    connection = await Connection.to(served.address)
    answer = await connection.ask(request_bytes("POST", "/v1/plans", body_of(request)))
    connection.close()
    job = store.job(answer.document()["id"], _ANONYMOUS)
    assert job is not None
    assert job.solve_id is not None
    ends = time.perf_counter() + _BEGINS_SECONDS
    while time.perf_counter() < ends:
        solve = store.solve(job.solve_id)
        if solve is not None and solve.state is SolveState.RUNNING:
            return _Watched(job_id=job.id, solve_id=solve.id, attempt=solve.attempt)
        await asyncio.sleep(0.05)
    raise RuntimeError("the solve did not begin")


async def _talk(store: Store, seen: _Watched) -> None:
    """Sentences at a steady pace, as long as the solve runs."""
    said = True
    while said:
        await asyncio.sleep(1 / _EVENTS_A_SECOND)
        said = await asyncio.to_thread(
            store.progress, seen.solve_id, seen.attempt, _SENTENCE[:200], 0.0
        )


async def _resumed(address: Address, path: str, after: str) -> list[Event]:
    """A reader that goes away after some events and comes back."""
    begun = await events(address, path, after, most=_EVENTS_A_SECOND)
    return begun + await events(address, path, begun[-1].id)


@contextlib.asynccontextmanager
async def _dropped(address: Address, seen: _Watched) -> AsyncIterator[list[float]]:
    """A reader that takes nothing. What is yielded has, once it was dropped, the seconds until then."""
    dropped: list[float] = []
    started = time.perf_counter()
    with never_reading(address, seen.path) as client:
        local_port = client.getsockname()[1]

        async def look() -> None:
            while _is_connected(address.port, local_port):
                await asyncio.sleep(0.1)
            dropped.append(time.perf_counter() - started)

        looking = asyncio.create_task(look())
        try:
            yield dropped
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking


def _is_connected(server_port: int, client_port: int) -> bool:
    """Whether the service's side of a connection still stands, by the kernel's table."""
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        return any(
            line.split()[1:4]
            == [
                f"0100007F:{server_port:04X}",
                f"0100007F:{client_port:04X}",
                "01",
            ]
            for line in table
        )
