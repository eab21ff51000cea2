"""A service without a socket over a real store, and executors that need no solver."""

import asyncio
import contextlib
import json
import secrets
import threading
import time

import pytest
from starlette.testclient import TestClient

from poet_core.baseline import keep_everything
from poet_core.documents import canonical_json, parse_json
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan, PlannedBy
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import request_from_document
from poet_core.simulate import simulate
from poet_service.app import create_app
from poet_service.database.engine import open_store
from poet_service.openapi import EXAMPLES
from poet_service.settings import Settings


def keep_everything_planner(problem, *, planner, backend, wall_seconds, patience_seconds, cancel):
    """Plans nothing: keeps everything, where that fits."""
    assert not cancel.is_set()
    return plan_of(problem, keep_everything(problem.graph), backend)


def plan_of(problem, schedule, solver="nobody"):
    """A schedule as a plan for `problem`, claiming what the judge finds."""
    judgement = simulate(problem.graph, problem.costs, problem.budget, schedule)
    return Plan(
        graph_sha256=graph_sha256(problem.graph),
        device_name=problem.device_name,
        budget=problem.budget,
        objective=problem.objective,
        allowed=problem.allowed,
        costs=problem.costs,
        schedule=schedule,
        claims=judgement.claims,
        planned_by=PlannedBy(
            formulation="keep everything", solver=solver, status="done", wall_seconds=0.0
        ),
    )


class HeldExecutor:
    """Carries out nothing by itself: a test moves solves with `begin`, `better`, `end`."""

    def __init__(self, store):
        self.store, self.notify = store, None
        self.submitted, self.stopped, self.trouble = [], [], None

    async def start(self):
        pass

    async def submit(self, solve_id):
        self.submitted.append(solve_id)

    async def stop(self, solve_id):
        self.stopped.append(solve_id)

    async def close(self):
        pass

    def ready(self):
        return self.trouble

    def begin(self, solve_id):
        solve = self.store.claim(solve_id, "test")
        self._told(solve_id)
        return solve

    def problem(self, solve_id):
        return request_from_document(parse_json(self.store.request(solve_id))).problem()

    def plan(self, solve_id):
        return plan_of(self.problem(solve_id), keep_everything(self.problem(solve_id).graph))

    def better(self, solve_id, elapsed=1.0):
        plan = self.plan(solve_id)
        attempt = self.store.solve(solve_id).attempt
        cost = plan.objective_value
        assert self.store.incumbent(
            solve_id, attempt, plan_text(plan), cost, cost / 2, 0.5, elapsed
        )
        self._told(solve_id)

    def end(self, solve_id, plan=None):
        plan = plan or self.plan(solve_id)
        attempt = self.store.solve(solve_id).attempt
        cost = plan.objective_value
        assert self.store.finish(solve_id, attempt, plan_text(plan), cost, cost, 0.0, 2.0)
        self._told(solve_id)

    def fail(self, solve_id, error):
        assert self.store.fail(solve_id, self.store.solve(solve_id).attempt, error)
        self._told(solve_id)

    def halt(self, solve_id):
        assert self.store.stopped(solve_id, self.store.solve(solve_id).attempt)
        self._told(solve_id)

    def _told(self, solve_id):
        if self.notify is not None:
            self.notify(solve_id)


class QuickExecutor(HeldExecutor):
    """Keeps everything, at once."""

    async def submit(self, solve_id):
        await super().submit(solve_id)
        await asyncio.to_thread(lambda: (self.begin(solve_id), self.end(solve_id)))


def plan_text(plan):
    return canonical_json(plan_to_document(plan))


@pytest.fixture
def store(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'poet.db'}")
    yield store
    store.close()


@pytest.fixture
def make_client(store, tmp_path):
    """make_client(executor, setting=value...): a running service; several share the store."""
    with contextlib.ExitStack() as running:

        def make(executor=None, *, headers=None, **settings):
            executor = executor or QuickExecutor(store)
            app = create_app(
                Settings(state_dir=tmp_path, **settings), store=store, executor=executor
            )
            client = TestClient(
                app, base_url="http://127.0.0.1", raise_server_exceptions=False, headers=headers
            )
            client.app_under_test = app
            return running.enter_context(client)

        yield make


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def held(store):
    return HeldExecutor(store)


@pytest.fixture
def graph():
    return EXAMPLES["named_device"]["value"]["graph"]


@pytest.fixture
def request_body(graph):
    """Everything fits in 32 KiB: 8 storages of 4 KiB."""
    return {"graph": graph, "device": "mkr1000", "budget": {"ram_bytes": 32768}}


def other_body(body, number=1):
    """The same step under another budget: another solve."""
    return body | {"budget": {"ram_bytes": 32768 - number}}


def check_problem(response, status, code):
    """A problem+json of that status and code, and nothing of ours in it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert set(problem) >= {"type", "title", "detail", "hint", "kind"}
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    return problem


def sse_events(text):
    """(id, kind, data) of each event in a stream's text."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        if "data" in fields:
            events.append((fields["id"], fields["event"], json.loads(fields["data"])))
    return events


def new_token(store, tenant="t", scopes=("plans",), most_active_jobs=None):
    """(token record, headers) of a new API token."""
    token, text = store.add_token(
        f"token-{secrets.token_hex(4)}", tenant, frozenset(scopes), most_active_jobs
    )
    return token, {"Authorization": f"Bearer {text}"}


def ask(client, body, **more):
    """A job's view, ended."""
    response = client.post("/v1/plans", params={"wait": 20}, json=body, **more)
    assert response.status_code == 200, response.text
    return response.json()


def in_thread(work):
    """Run `work` beside; join() gives its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()

    def join():
        thread.join(10)
        assert not thread.is_alive()
        return results[0]

    return join


def eventually(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
