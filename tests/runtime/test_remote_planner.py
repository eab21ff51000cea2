"""RemotePlanner: TrainStep's planner at a service, or here where there is none."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from poet_client import RetryPolicy
from poet_core.errors import ServiceError
from poet_core.graph_document import graph_from_document
from poet_core.plan_request import PlanRequest
from poet_core.verify import verify
from poet_runtime.planner import RemotePlanner, obtain_plan
from poet_service.openapi import EXAMPLES
from tests.client.fake_service import fake_service, problem

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def request_asked() -> PlanRequest:
    example: Any = EXAMPLES["named_device"]["value"]
    return PlanRequest(
        graph=graph_from_document(example["graph"]), device="mkr1000", ram_bytes=32768
    )


def test_a_plan_from_a_service(request_asked: PlanRequest) -> None:
    token = "poet_" + "r" * 43
    with fake_service() as (service, url):
        plan, judgement = obtain_plan(request_asked, RemotePlanner(url, token=token))
    assert judgement == verify(request_asked.graph, plan)
    assert plan.planned_by.formulation == "keep everything"
    assert service.seen[0][2]["Authorization"] == f"Bearer {token}"


def test_without_a_service_there_is_an_error_or_a_plan_made_here(
    request_asked: PlanRequest,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServiceError) as caught:
            RemotePlanner(url, retry=ONCE).plan(request_asked)
        assert caught.value.code == "server_unreachable"
        with pytest.warns(RuntimeWarning, match="Planning in this process instead"):
            plan = RemotePlanner(url, fallback="local", retry=ONCE).plan(request_asked)
    assert verify(request_asked.graph, plan).peak_bytes <= 32768


def test_a_service_that_says_no_is_not_gone_round(request_asked: PlanRequest) -> None:
    def refuses(handler: Any) -> bool:
        problem(handler, 401, "token_missing")
        return True

    with fake_service() as (service, url):
        service.faults.append(refuses)
        with pytest.raises(ServiceError) as caught:
            RemotePlanner(url, fallback="local").plan(request_asked)
    assert caught.value.code == "token_missing"
