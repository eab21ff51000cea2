"""Large problems: steps of BERT-base's size and of twice that, about a megabyte of JSON.

validate    POST /v1/plans:validate: parsed, checked, floor and bounds; nothing is stored
accept      POST /v1/plans of a problem that nobody has asked: parsed, checked, stored, queued
            (202); the job is erased, and the next is posted when it has gone
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from benchmarks.service_figures import Figure
from benchmarks.service_http import Address, Answer, Connection, request_bytes
from benchmarks.service_load import percentile
from benchmarks.service_problems import BERT_LAYERS, body_of, large_request
from benchmarks.service_process import service
from poet_core.plan_request import PlanRequest

_MOST_MS = 150.0
_PATH = "/v1/plans"
_REST_SECONDS = 0.5
# A job that is erased has stopped its solve by then, or the machine is not the next one's.
_IDLE_SECONDS = 10.0


def big(times: int, layers: int = BERT_LAYERS) -> list[Figure]:
    """Each request so many times, after one that is not counted."""
    return asyncio.run(_big(times, layers))


async def _big(times: int, layers: int) -> list[Figure]:
    figures: list[Figure] = []
    with service() as served:
        for title, request in (
            ("BERT-base's size", large_request(layers)),
            ("a megabyte", large_request(2 * layers + 3)),
        ):
            connection = await Connection.to(served.address)
            size = len(body_of(request)) / 1e6
            told = f"{title} ({len(request.graph.ops)} ops, {size:.2f} MB)"
            before = served.cpu_seconds()
            validated = await _validated(connection, request, times)
            cpu_seconds = (served.cpu_seconds() - before) / (times + 1)
            accepted = await _accepted(served.address, request, times)
            connection.close()
            figures += _latencies(f"{told}: validate", validated)
            figures.append(
                Figure(what=f"{told}: validate, the API process's CPU time",
                       value=cpu_seconds * 1e3, unit="ms")
            )  # fmt: skip
            figures += _latencies(f"{told}: accept", accepted)
    return figures


def _latencies(what: str, seconds: list[float]) -> list[Figure]:
    return [
        Figure(what=f"{what}, {name}", value=percentile(seconds, share) * 1e3, unit="ms",
               most=_MOST_MS)
        for name, share in (("half", 0.5), ("99 %", 0.99))
    ]  # fmt: skip


async def _validated(connection: Connection, request: PlanRequest, times: int) -> list[float]:
    post = request_bytes("POST", f"{_PATH}:validate", body_of(request))
    taken: list[float] = []
    for _ in range(times + 1):
        seconds, answer = await _timed(connection, post, 200)
        if not answer.document()["fits"]:
            raise RuntimeError("the large problem is impossible")
        taken.append(seconds)
    return taken[1:]


async def _accepted(address: Address, request: PlanRequest, times: int) -> list[float]:
    """Each with a byte more RAM: another problem."""
    taken: list[float] = []
    for number in range(times + 1):
        asked = replace(request, ram_bytes=request.ram_bytes + number)
        post = request_bytes("POST", _PATH, body_of(asked))
        connection = await Connection.to(address)
        seconds, answer = await _timed(connection, post, 202)
        taken.append(seconds)
        erase = request_bytes("DELETE", f"{_PATH}/{answer.document()['id']}?discard=true")
        await _timed(connection, erase, 204)
        connection.close()
        await _idle(address)
    return taken[1:]


async def _idle(address: Address) -> None:
    """Return once no solve runs or waits any more."""
    connection = await Connection.to(address)
    ends = time.perf_counter() + _IDLE_SECONDS
    busy = True
    while busy and time.perf_counter() < ends:
        await asyncio.sleep(_REST_SECONDS)
        text = (await connection.ask(request_bytes("GET", "/metrics"))).body.decode()
        busy = any(
            float(line.rpartition(" ")[2]) > 0
            for line in text.splitlines()
            if line.startswith("poet_solves{") and ('"running"' in line or '"queued"' in line)
        )
    connection.close()
    if busy:
        raise RuntimeError("an erased job's solve runs on")


async def _timed(connection: Connection, request: bytes, status: int) -> tuple[float, Answer]:
    started = time.perf_counter()
    answer = await connection.ask(request)
    seconds = time.perf_counter() - started
    if answer.status != status:
        raise RuntimeError(f"expected {status}: {answer.status} {answer.body[:500]!r}")
    return seconds, answer
