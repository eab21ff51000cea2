"""The service on a loopback port, clients of both kinds, and haste.

The service is the real one, with an executor that needs no solver. What it never does (answers that
lie, streams that break when told to) comes from `fake_service`.
"""

import asyncio
import contextlib
import inspect
import itertools
import tempfile
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from poet_client import AsyncPlannerClient, PlannerClient, RetryPolicy
from poet_client.async_job import AsyncFrontierJob, AsyncJob
from poet_core.graph_document import graph_from_document
from poet_core.plan_request import PlanRequest
from poet_service.app import create_app
from poet_service.database.engine import open_store
from poet_service.openapi import EXAMPLES
from poet_service.settings import Settings
from tests.client.fake_service import served
from tests.service.conftest import HeldExecutor, QuickExecutor

# As often as always, without the waiting.
HASTY = RetryPolicy(base_seconds=0.002, most_seconds=0.01, most_retry_after_seconds=0.05)

hostile_server = served


@pytest.fixture
def graph():
    return graph_from_document(EXAMPLES["named_device"]["value"]["graph"])


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    """Whoever runs the tests may have one."""
    monkeypatch.delenv("POET_TOKEN", raising=False)
    monkeypatch.delenv("POET_TOKEN_FILE", raising=False)


def request_for(graph, **more):
    return PlanRequest(graph=graph, **({"device": "mkr1000", "ram_bytes": 32768} | more))


def hasty(url, **more):
    return PlannerClient(url, **({"retry": HASTY} | more))


class Blocking:
    """An asynchronous client, job or frontier whose calls wait, so that one test speaks to both."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*arguments, **named):
            result = found(*arguments, **named)
            if inspect.isasyncgen(result):
                return asyncio.run(_all(result))
            if inspect.isawaitable(result):
                result = asyncio.run(_awaited(result))
            return Blocking(result) if isinstance(result, (AsyncJob, AsyncFrontierJob)) else result

        return call


async def _all(values):
    return [value async for value in values]


async def _awaited(value):
    return await value


def hasty_async(url, **more):
    return Blocking(AsyncPlannerClient(url, **({"retry": HASTY} | more)))


@pytest.fixture(params=["sync", "async"])
def client_of(request):
    """client_of(url): a client of either kind."""
    return {"sync": hasty, "async": hasty_async}[request.param]


@contextlib.contextmanager
def running_service(make_executor=QuickExecutor, **settings):
    """(address, executor) of the real service."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{Path(folder) / 'poet.db'}")
        executor = make_executor(store)
        app = create_app(
            Settings(state_dir=Path(folder), **settings), store=store, executor=executor
        )
        server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, lifespan="on", ws="none")
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not server.started:
                assert time.monotonic() < deadline
                assert thread.is_alive()
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield f"http://127.0.0.1:{port}", executor
        finally:
            app.leave()
            server.should_exit = True
            thread.join(20)
            store.close()
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def service():
    """A service that keeps everything, at once."""
    with running_service() as (url, _):
        yield url


@pytest.fixture(scope="session")
def _held():
    with running_service(HeldExecutor) as found:
        yield found


@pytest.fixture
def held(_held):
    """(address, executor) of a service whose solves a test moves; `submitted` is the test's own."""
    _, executor = _held
    executor.submitted.clear()
    executor.stopped.clear()
    return _held


_budgets = itertools.count(32768, -1)


@pytest.fixture
def request_new(graph):
    """A request that no other test asks: equal ones share a solve."""
    return request_for(graph, ram_bytes=next(_budgets))
