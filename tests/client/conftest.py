"""A service on a loopback port, a server that answers whatever a test wants, and haste."""

import contextlib

import pytest

from poet_client import PlannerClient, RetryPolicy
from poet_core.errors import PoetError
from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest
from poet_service.openapi import EXAMPLES
from tests.client.fake_service import fake_service, keep_everything_plan, reply, served

# As often as always, without the waiting.
HASTY = RetryPolicy(base_seconds=0.002, most_seconds=0.01, most_retry_after_seconds=0.05)

__all__ = ["HASTY", "hasty", "hostile_server", "reply", "request_for", "running_service"]

hostile_server = served


@pytest.fixture
def graph():
    return graph_from_document(EXAMPLES["named_device"]["value"]["graph"])


def hasty(url, **more):
    return PlannerClient(url, **({"retry": HASTY} | more))


def request_for(graph, **more):
    return PlanRequest(graph=graph, **({"device": "mkr1000", "ram_bytes": 32768} | more))


@contextlib.contextmanager
def running_service(planner=keep_everything_plan):
    """The address of a service that plans with `planner`."""

    def plan(job):
        try:
            job.end(plan=plan_to_document(planner(job.request)))
        except PoetError as error:
            job.end("failed", error=error.to_document() | {"kind": "planning"})

    with fake_service(plan) as (_, url):
        yield url


@pytest.fixture(scope="session")
def service():
    with running_service() as url:
        yield url
