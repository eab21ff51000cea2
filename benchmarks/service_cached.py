"""Stored answers: requests that were planned before, asked again.

Fifty problems are planned first. Then each request is one of them, in turn: POST /v1/plans with the
whole graph, answered with the whole plan. The same load on a program that answers from memory
(`service_echo`) says what the generator and the machine add by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.service_figures import Figure
from benchmarks.service_http import Address, Answer, ask_once, request_bytes
from benchmarks.service_load import Load, at_rate, percentile, saturated
from benchmarks.service_problems import body_of, small_request
from benchmarks.service_process import service

_PROBLEMS = 50
_CONNECTIONS = 50
_PER_SECOND = 300.0
_WARM_SECONDS = 1.0
# One client is all the load here, and the service would take only so much from one.
_SETTINGS = {"requests_per_second": 100_000}


def cached(seconds: float, problems: int = _PROBLEMS) -> list[Figure]:
    """Latencies at a set rate, and the rate at saturation; each for `seconds`."""
    return asyncio.run(_cached(seconds, problems))


async def _cached(seconds: float, problems: int) -> list[Figure]:
    bodies = [body_of(small_request(number)) for number in range(problems)]
    posts = [request_bytes("POST", "/v1/plans", body) for body in bodies]
    with service(_SETTINGS) as served:
        answers = [await _planned(served.address, body) for body in bodies]
        paths = [f"/v1/plans/{answer.document()['id']}" for answer in answers]
        gets = [request_bytes("GET", path) for path in paths]
        await _rate(served.address, posts, _WARM_SECONDS)
        before = served.cpu_seconds()
        posted = await _rate(served.address, posts, seconds)
        between = served.cpu_seconds()
        got = await _rate(served.address, gets, seconds)
        after = served.cpu_seconds()
        most = await _most(served.address, posts, seconds)
    with _echo(len(answers[-1].body)) as echo:
        plain = await _rate(echo, posts, seconds)
        ceiling = await _most(echo, posts, seconds)
    bad = posted.bad + got.bad + most.bad
    return [
        *_latencies("POST of a stored problem", posted, most=(5, 50)),
        *_latencies("GET of its job", got, most=(5, 50)),
        Figure(what=f"POSTs answered, {_CONNECTIONS} connections busy", value=most.per_second,
               unit="a second", least=500),
        Figure(what="requests that failed", value=bad, most=0, least=0),
        _cpu("a POST", between - before, posted),
        _cpu("a GET", after - between, got),
        *_latencies("the generator alone", plain, most=None),
        Figure(what="sent late by the generator, 99 %", value=percentile(posted.late, 0.99) * 1e3,
               unit="ms"),
        Figure(what="the generator's ceiling", value=ceiling.per_second, unit="a second"),
    ]  # fmt: skip


def _latencies(what: str, load: Load, most: tuple[float, float] | None) -> list[Figure]:
    return [
        Figure(what=f"{what} at {_PER_SECOND:.0f} a second, {name}",
               value=percentile(load.latencies, share) * 1e3, unit="ms",
               most=most[index] if most else None)
        for index, (name, share) in enumerate((("half", 0.5), ("99 %", 0.99)))
    ]  # fmt: skip


def _cpu(what: str, seconds: float, load: Load) -> Figure:
    return Figure(what=f"the API process's CPU time of {what}", unit="ms",
                  value=seconds / len(load.latencies) * 1e3)  # fmt: skip


async def _planned(address: Address, body: bytes) -> Answer:
    """The answer to a problem that nobody has asked before."""
    answer = await ask_once(address, request_bytes("POST", "/v1/plans?wait=30", body))
    if answer.status != 200 or answer.document()["state"] != "finished":
        raise RuntimeError(f"no plan for a small problem: {answer.status} {answer.body[:500]!r}")
    return answer


async def _rate(address: Address, requests: list[bytes], seconds: float) -> Load:
    return await at_rate(lambda number: requests[number % len(requests)], address,
                         connections=_CONNECTIONS, per_second=_PER_SECOND, seconds=seconds)  # fmt: skip


async def _most(address: Address, requests: list[bytes], seconds: float) -> Load:
    return await saturated(lambda number: requests[number % len(requests)], address,
                           connections=_CONNECTIONS, seconds=seconds)  # fmt: skip


@contextlib.contextmanager
def _echo(answer_bytes: int) -> Iterator[Address]:
    command = [sys.executable, "-m", "benchmarks.service_echo", str(answer_bytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Address("127.0.0.1", int(process.stdout.readline()))
        finally:
            process.terminate()
