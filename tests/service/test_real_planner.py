"""The whole service with its own executor: every example of the description works as it is."""

import pytest
from starlette.testclient import TestClient

from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_from_document
from poet_core.verify import verify
from poet_service.app import create_app
from poet_service.database.engine import open_store
from poet_service.execution.embedded import EmbeddedExecutor
from poet_service.openapi import EXAMPLES, FRONTIER_EXAMPLES
from poet_service.settings import Settings
from tests.service.conftest import sse_events


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    store = open_store(f"sqlite:///{folder / 'poet.db'}")
    app = create_app(
        Settings(state_dir=folder), store=store, executor=EmbeddedExecutor(store, folder=folder)
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client
    store.close()


def ended(client, response):
    """The job's view at its end."""
    path = response.headers["location"]
    for _ in range(4):
        view = client.get(f"{path}?wait=30").json()
        if view["state"] not in {"queued", "running"}:
            return view
    raise AssertionError(view)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_planned(service, name):
    body = EXAMPLES[name]["value"]
    view = ended(service, service.post("/v1/plans", json=body))
    assert view["state"] == "finished", view["error"]
    judgement = verify(graph_from_document(body["graph"]), plan_from_document(view["plan"]))
    assert judgement.peak_bytes <= body["budget"]["ram_bytes"]
    summary = view["summary"]
    assert summary["peak_bytes"] == judgement.peak_bytes < summary["keep_everything_bytes"]
    assert summary["transfers"] + summary["recomputed_ops"] > 0
    assert service.post("/v1/plans", json=body).status_code == 200
    events = sse_events(service.get(view["links"]["events"]).text)
    assert events[-1][1] == "done"
    assert "incumbent" in [kind for _, kind, _ in events]


def test_a_frontier_is_planned(service):
    body = FRONTIER_EXAMPLES["named_sizes"]["value"]
    view = ended(service, service.post("/v1/frontiers", json=body))
    assert view["state"] == "finished"
    costs = [point["cost"] for point in view["points"]]
    assert costs == sorted(costs)  # less RAM is never cheaper
    for point in view["points"]:
        plan = plan_from_document(service.get(point["links"]["plan"]).json())
        judgement = verify(graph_from_document(body["graph"]), plan)
        assert judgement.peak_bytes == point["peak_bytes"] <= point["ram_bytes"]


def test_a_plan_that_is_given_is_begun_with(service):
    body = EXAMPLES["own_profile"]["value"]
    plan = ended(service, service.post("/v1/plans", json=body))["plan"]
    view = ended(service, service.post("/v1/plans", json=body | {"warm_start": plan}))
    assert (view["state"], view["cost"] > 0) == ("finished", True)
