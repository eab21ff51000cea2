"""A service without a socket, and planners that need no solver."""

import threading

import pytest
from starlette.testclient import TestClient

from poet_core.baseline import keep_everything
from poet_core.errors import PlanningError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan, PlannedBy
from poet_core.simulate import simulate
from poet_service.app import create_app
from poet_service.openapi import EXAMPLES
from poet_service.settings import ServiceSettings


def keep_everything_planner(problem, *, planner, backend, wall_seconds, patience_seconds, cancel):
    """Plans nothing: keeps everything, where that fits."""
    assert not cancel.is_set()
    schedule = keep_everything(problem.graph)
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
            formulation="keep everything", solver=backend, status="done", wall_seconds=wall_seconds
        ),
    )


class WaitingPlanner:
    """Runs until it is cancelled."""

    def __init__(self):
        self.started, self.cancelled = threading.Event(), threading.Event()

    def __call__(self, problem, *, planner, backend, wall_seconds, patience_seconds, cancel):
        self.started.set()
        if cancel.wait(20):
            self.cancelled.set()
        raise PlanningError("Cancelled.", code="cancelled")


def make_client(planner=keep_everything_planner, **settings):
    app = create_app(planner=planner, settings=ServiceSettings(**settings))
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def client():
    return make_client()


@pytest.fixture
def graph():
    return EXAMPLES["named_device"]["value"]["graph"]


@pytest.fixture
def request_body(graph):
    """Everything fits in 32 KiB: 8 storages of 4 KiB."""
    return {"graph": graph, "device": "mkr1000", "budget": {"ram_bytes": 32768}}


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
