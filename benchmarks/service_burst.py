"""Many problems at once: each client posts one problem of its own, all at the same moment.

A client that is told to wait (429, or 503) does so, with Retry-After and a random pause, and posts
again under the same Idempotency-Key; so does one whose connection was cut. Then it polls its job to
the end. Afterwards: every job has ended with a plan, the service knows exactly these jobs, each
solved at the first attempt, and the judge accepts each plan for the very problem of its client.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.service_figures import Figure
from benchmarks.service_http import Address, Answer, Connection, ask_once, request_bytes
from benchmarks.service_load import percentile
from benchmarks.service_problems import body_of, small_request
from benchmarks.service_process import Memory, service, watched
from poet_client.judging import judged
from poet_client.retrying import RetryPolicy
from poet_core.errors import PoetError
from poet_core.plan_request import PlanRequest

_MB = 10**6
_API_MB = 300
_POLL_SECONDS = 20
# How our own client waits.
_PATIENCE = RetryPolicy()
_GIVE_UP_SECONDS = 900.0
# Every problem is another one than those of the other parts.
_FIRST = 10_000
_TRANSIENT = frozenset({429, 503})


@dataclass(slots=True, kw_only=True)
class _Client:
    """One client: what it asked, and what came of it."""

    request: PlanRequest
    body: bytes
    key: str
    job_id: str = ""
    view: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def burst(clients: int) -> list[Figure]:
    """So many problems posted at once."""
    return asyncio.run(_burst(clients))


async def _burst(count: int) -> list[Figure]:
    requests = [small_request(_FIRST + number) for number in range(count)]
    clients = [
        _Client(request=request, body=body_of(request), key=f"burst-{number}")
        for number, request in enumerate(requests)
    ]
    told: Counter[str] = Counter()
    with service() as served:
        started, before = time.perf_counter(), served.cpu_seconds()
        async with watched(served.process.pid) as memory:
            await asyncio.gather(*(_run(client, served.address, told) for client in clients))
        seconds = time.perf_counter() - started
        cpu_seconds, peak_bytes = served.cpu_seconds() - before, served.peak_bytes()
        jobs = await _jobs(served.address)
    return [
        *_figures(clients, jobs, told, seconds),
        Figure(what="the API process's CPU time of a problem, polls and refusals with it",
               value=cpu_seconds / count * 1e3, unit="ms"),
        *_memory(memory, peak_bytes),
    ]  # fmt: skip


async def _run(client: _Client, address: Address, told: Counter[str]) -> None:
    """Post until it is taken, poll until it has ended."""
    started = time.perf_counter()
    post = request_bytes("POST", "/v1/plans", client.body, headers={"Idempotency-Key": client.key},
                         close=True)  # fmt: skip
    taken = await _patiently(address, post, told)
    client.view = taken.document()
    client.job_id = client.view["id"]
    poll = request_bytes("GET", f"/v1/plans/{client.job_id}?wait={_POLL_SECONDS}", close=True)
    while client.view["state"] in ("queued", "running"):
        client.view = (await _patiently(address, poll, told)).document()
        if time.perf_counter() - started > _GIVE_UP_SECONDS:
            break
    client.seconds = time.perf_counter() - started


async def _patiently(address: Address, request: bytes, told: Counter[str]) -> Answer:
    """The answer that is none of "later". Raises RuntimeError at any other refusal."""
    ends, refusals = time.perf_counter() + _GIVE_UP_SECONDS, 0
    while time.perf_counter() < ends:
        wait, refusals = 0.0, refusals + 1
        try:
            answer = await ask_once(address, request)
        except OSError:
            told["cut"] += 1
        else:
            if answer.status in (200, 202):
                return answer
            if answer.status not in _TRANSIENT:
                raise RuntimeError(f"refused: {answer.status} {answer.body[:500]!r}")
            told[str(answer.status)] += 1
            wait = float(answer.header("retry-after") or 0)
        await asyncio.sleep(wait + _PATIENCE.pause_seconds(refusals))
    raise RuntimeError("the service did not answer in time")


async def _jobs(address: Address) -> list[dict[str, Any]]:
    """Every job that the service knows, page by page."""
    connection = await Connection.to(address)
    jobs: list[dict[str, Any]] = []
    path = "/v1/plans?limit=100"
    while path:
        page = (await connection.ask(request_bytes("GET", path))).document()
        jobs += page["jobs"]
        path = f"/v1/plans?limit=100&before={page['next']}" if page["next"] else ""
    connection.close()
    return jobs


def _figures(
    clients: list[_Client], jobs: list[dict[str, Any]], told: Counter[str], seconds: float
) -> list[Figure]:
    count = len(clients)
    known = Counter(job["id"] for job in jobs)
    mine = {client.job_id for client in clients}
    judged_plans = sum(_holds(client) for client in clients)
    once = sum(1 for job in jobs if job["attempt"] == 1)
    took = [client.seconds for client in clients]

    def all_of(what: str, value: int) -> Figure:
        return Figure(what=what, value=value, least=count, most=count)

    return [
        all_of("jobs that ended with a plan",
               sum(client.view["state"] == "finished" for client in clients)),
        all_of("plans that the client's judge accepts", judged_plans),
        all_of("different jobs of the clients that the service knows", len(mine & set(known))),
        all_of("jobs that the service knows", known.total()),
        all_of("jobs solved at the first attempt", once),
        Figure(what="answers 429", value=told["429"], least=1 if count > 100 else None),
        Figure(what="answers 503 (more connections than it takes)", value=told["503"]),
        Figure(what="connections cut (the same, many more)", value=told["cut"]),
        Figure(what="seconds until the last plan", value=seconds, unit="s"),
        Figure(what="seconds until a client's plan, half", value=percentile(took, 0.5), unit="s"),
    ]  # fmt: skip


def _holds(client: _Client) -> bool:
    try:
        judged(client.view["plan"], client.request)
    except PoetError:
        return False
    return True


def _memory(memory: Memory, peak_bytes: int) -> list[Figure]:
    return [
        Figure(what="RAM of the API process at most", value=peak_bytes / _MB, unit="MB",
               most=_API_MB),
        Figure(what="RAM of the API process, half of the time at most",
               value=percentile(list(map(float, memory.api_bytes)), 0.5) / _MB, unit="MB"),
        Figure(what="RAM of the whole service at most (shared pages once)",
               value=max(memory.whole_bytes, default=0) / _MB, unit="MB"),
        Figure(what="processes of the service at most", value=memory.processes),
    ]  # fmt: skip
