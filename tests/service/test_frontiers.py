"""/v1/frontiers: several RAM budgets as one job, each solve shared and stored like any other."""

import threading

import pytest

from poet_core.errors import PlanningError
from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_from_document
from poet_core.verify import verify
from poet_service.problems import error_document
from tests.service.conftest import check_problem, new_token, sse_events

SIZES = [32768, 30000, 28000]


@pytest.fixture
def body(graph):
    return {"graph": graph, "device": "mkr1000", "ram_bytes": SIZES}


def solve_of(held, ram_bytes):
    return next(
        solve_id
        for solve_id in held.submitted
        if held.problem(solve_id).budget.ram_bytes == ram_bytes
    )


def test_points_come_one_after_another(make_client, held, body):
    client = make_client(held)
    posted = client.post("/v1/frontiers", json=body)
    assert posted.status_code == 202
    view = posted.json()
    path = posted.headers["location"]
    assert path == view["links"]["self"] == f"/v1/frontiers/{view['id']}"
    assert (view["state"], view["floor_bytes"]) == ("queued", 3 * 4096)
    assert [point["ram_bytes"] for point in view["points"]] == SIZES
    assert all(point["cost"] is None and not point["links"] for point in view["points"])
    held.begin(solve_of(held, 30000))
    held.end(solve_of(held, 30000))
    view = client.get(path).json()
    assert view["state"] == "running"
    loose, middle, tight = view["points"]
    assert (middle["state"], middle["peak_bytes"]) == ("finished", view["keep_everything_bytes"])
    assert middle["cost"] == middle["energy_joules"] > 0
    # A plan for less RAM is a plan for more.
    assert (loose["state"], loose["from_ram_bytes"], loose["cost"]) == (
        "queued", 30000, middle["cost"],
    )  # fmt: skip
    assert (tight["state"], tight["cost"]) == ("queued", None)
    for ram_bytes in (32768, 28000):
        held.begin(solve_of(held, ram_bytes))
        held.end(solve_of(held, ram_bytes))
    view = client.get(path).json()
    assert view["state"] == "finished"
    assert all(point["state"] == "finished" for point in view["points"])


def test_each_points_plan_is_judged_for_its_budget(make_client, held, body, graph):
    client = make_client(held)
    path = client.post("/v1/frontiers", json=body).headers["location"]
    check_problem(client.get(f"{path}/plans/32768"), 409, "no_plan_yet")
    held.begin(solve_of(held, 28000))
    held.end(solve_of(held, 28000))
    for point in client.get(path).json()["points"]:
        plan = plan_from_document(client.get(point["links"]["plan"]).json())
        assert plan.budget.ram_bytes == point["ram_bytes"]
        assert verify(graph_from_document(graph), plan).peak_bytes == point["peak_bytes"]
    check_problem(client.get(f"{path}/plans/31000"), 404, "frontier_unknown")
    check_problem(client.get(f"{path}/plans/0"), 422, "parameter_invalid")


def test_a_point_is_a_plan_jobs_solve_and_the_other_way(make_client, held, body, request_body):
    client = make_client(held)
    client.post("/v1/plans", json=request_body)
    client.post("/v1/frontiers", json=body)
    assert len(held.submitted) == 3
    held.begin(solve_of(held, 28000))
    held.end(solve_of(held, 28000))
    tight = request_body | {"budget": {"ram_bytes": 28000}}
    assert client.post("/v1/plans", json=tight).status_code == 200
    everything = client.post("/v1/frontiers", json=body | {"ram_bytes": [28000]})
    assert (everything.status_code, everything.json()["state"]) == (200, "finished")


def test_sizes_are_chosen_where_none_are_named(make_client, held, graph):
    client = make_client(held)
    body = {"graph": graph, "device": "mkr1000", "points": 4, "budget": {"time_ratio": 3}}
    view = client.post("/v1/frontiers", json=body).json()
    sizes = [point["ram_bytes"] for point in view["points"]]
    assert sizes == sorted(sizes, reverse=True)
    assert (len(sizes), sizes[0], sizes[-1]) == (
        4, view["keep_everything_bytes"], view["floor_bytes"],
    )  # fmt: skip
    base = held.problem(held.submitted[0]).costs.base_seconds
    assert held.problem(held.submitted[0]).budget.step_seconds == pytest.approx(3 * base)


def test_a_point_without_a_plan_says_why(make_client, held, body):
    client = make_client(held)
    path = client.post("/v1/frontiers", json=body | {"ram_bytes": [28000]}).headers["location"]
    held.begin(held.submitted[0])
    held.fail(held.submitted[0], error_document(PlanningError("Not found.", code="not_found")))
    view = client.get(path).json()
    assert (view["state"], view["points"][0]["error"]["code"]) == ("failed", "not_found")
    check_problem(client.get(f"{path}/plans/28000"), 409, "no_plan")


def test_a_long_poll_waits_for_the_last_point(make_client, held, body):
    client = make_client(held, poll_seconds=10)
    path = client.post("/v1/frontiers", json=body).headers["location"]
    views = []
    waiting = threading.Thread(target=lambda: views.append(client.get(f"{path}?wait=20").json()))
    waiting.start()
    for ram_bytes in SIZES:
        held.begin(solve_of(held, ram_bytes))
        held.end(solve_of(held, ram_bytes))
    waiting.join(8)
    assert not waiting.is_alive()
    assert views[0]["state"] == "finished"


def test_merged_events_are_resumable(make_client, held, body):
    client = make_client(held)
    path = client.post("/v1/frontiers", json=body).headers["location"]
    for ram_bytes in SIZES:
        held.begin(solve_of(held, ram_bytes))
        held.better(solve_of(held, ram_bytes))
        held.end(solve_of(held, ram_bytes))
    events = sse_events(client.get(f"{path}/events").text)
    kinds = [kind for _, kind, _ in events]
    assert (kinds.count("incumbent"), kinds.count("point"), kinds[-1]) == (3, 3, "done")
    assert events[-1][2] == {"state": "finished"}
    points = [data["ram_bytes"] for _, kind, data in events if kind == "point"]
    assert sorted(points) == sorted(SIZES)
    for position in (0, 4, 7):
        again = client.get(f"{path}/events", headers={"Last-Event-ID": events[position][0]})
        assert sse_events(again.text) == events[position + 1 :]
    bad = client.get(f"{path}/events", headers={"Last-Event-ID": "3"})
    check_problem(bad, 422, "parameter_invalid")


def test_stopping_leaves_all_points_and_keeps_what_there_is(make_client, held, body):
    client = make_client(held)
    path = client.post("/v1/frontiers", json=body).headers["location"]
    held.begin(solve_of(held, 28000))
    held.better(solve_of(held, 28000))
    view = client.delete(path).json()
    assert held.stopped == [solve_of(held, 28000)]
    assert (view["state"], {point["state"] for point in view["points"]}) == (
        "stopped", {"stopped"},
    )  # fmt: skip
    assert view["points"][2]["cost"] > 0
    assert client.get(view["points"][2]["links"]["plan"]).status_code == 200
    assert client.delete(f"{path}?discard=true").status_code == 204
    check_problem(client.get(path), 404, "frontier_unknown")


def test_another_tokens_frontier_is_unknown(make_client, held, store, body):
    (_, mine), (_, theirs) = new_token(store, "one"), new_token(store, "one")
    client = make_client(held)
    path = client.post("/v1/frontiers", json=body, headers=mine).headers["location"]
    for method, address in [
        ("GET", path), ("GET", f"{path}/events"), ("GET", f"{path}/plans/32768"), ("DELETE", path),
    ]:  # fmt: skip
        check_problem(client.request(method, address, headers=theirs), 404, "frontier_unknown")


def test_an_idempotency_key(make_client, held, body):
    client = make_client(held)
    key = {"Idempotency-Key": "k"}
    one, same = (client.post("/v1/frontiers", json=body, headers=key) for _ in range(2))
    assert one.json()["id"] == same.json()["id"]
    other = client.post("/v1/frontiers", json=body | {"ram_bytes": [28000]}, headers=key)
    check_problem(other, 422, "idempotency_conflict")


def test_the_list_names_frontiers_too(make_client, held, body):
    client = make_client(held)
    posted = client.post("/v1/frontiers", json=body).json()
    (listed,) = client.get("/v1/plans").json()["jobs"]
    assert (listed["kind"], listed["id"], listed["ram_bytes"]) == ("frontier", posted["id"], SIZES)
