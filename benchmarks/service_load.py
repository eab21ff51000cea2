"""Load on a service: at a set rate whatever it does, or as much as it takes.

    at_rate     request n is due at n / rate. Its latency counts from when it was due, not from when
                a connection was free for it: a service that stalls is charged for all who wait.
    saturated   every connection asks again as soon as it has its answer.

`late` is the generator's own share: how long after it was due a request was sent although a
connection was free.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.service_http import Address, Connection

Request = Callable[[int], bytes]
"""The n-th request, made beforehand."""


@dataclass(slots=True, kw_only=True)
class Load:
    """What came of it. Seconds, one entry a request."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def bad(self) -> int:
        """Requests that had no 200."""
        others = sum(count for status, count in self.statuses.items() if status != 200)
        return others + self.failures.total()

    @property
    def per_second(self) -> float:
        """Answers 200 a second."""
        return self.statuses[200] / self.seconds


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


async def at_rate(
    request: Request, address: Address, *, connections: int, per_second: float, seconds: float
) -> Load:
    """`per_second * seconds` requests, each due at its time."""
    load, count = Load(), int(per_second * seconds)
    opened = [await Connection.to(address) for _ in range(connections)]
    numbers = iter(range(count))
    started = time.perf_counter()

    async def worker(connection: Connection) -> None:
        for number in numbers:
            due = started + number / per_second
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
                load.late.append(time.perf_counter() - due)
            connection = await _ask(connection, address, request(number), load)
            load.latencies.append(time.perf_counter() - due)
        connection.close()

    await asyncio.gather(*map(worker, opened))
    load.seconds = time.perf_counter() - started
    return load


async def saturated(
    request: Request, address: Address, *, connections: int, seconds: float
) -> Load:
    """As many requests as are answered within `seconds`."""
    load = Load()
    opened = [await Connection.to(address) for _ in range(connections)]
    numbers = itertools.count()
    started = time.perf_counter()

    async def worker(connection: Connection) -> None:
        while (sent := time.perf_counter()) < started + seconds:
            connection = await _ask(connection, address, request(next(numbers)), load)
            load.latencies.append(time.perf_counter() - sent)
        connection.close()

    await asyncio.gather(*map(worker, opened))
    load.seconds = time.perf_counter() - started
    return load


async def _ask(connection: Connection, address: Address, request: bytes, load: Load) -> Connection:
    """Ask, count what came, and hand back a connection for the next one."""
    try:
        if not connection.is_open:
            connection = await Connection.to(address)
        load.statuses[(await connection.ask(request)).status] += 1
    except OSError as error:
        load.failures[type(error).__name__] += 1
    return connection
