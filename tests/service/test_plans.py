"""POST /v1/plans: stored, shared within a tenant, owned by a token, limited."""

import time

import pytest

from poet_core.documents import parse_json
from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.verify import verify
from poet_service.jobs import desk
from poet_service.jobs.asked import read_asked
from tests.service.conftest import (
    ask,
    check_problem,
    in_thread,
    new_token,
    other_body,
)


def test_a_job_begins_and_ends_with_a_judged_plan(make_client, held, request_body, graph):
    client = make_client(held)
    posted = client.post("/v1/plans", json=request_body)
    assert posted.status_code == 202
    view = posted.json()
    assert (view["state"], view["plan"], view["attempt"]) == ("queued", None, 0)
    assert len(view["id"]) == 32
    assert posted.headers["location"] == view["links"]["self"] == f"/v1/plans/{view['id']}"
    (solve_id,) = held.submitted
    held.begin(solve_id)
    assert client.get(posted.headers["location"]).json()["state"] == "running"
    held.end(solve_id)
    view = client.get(posted.headers["location"]).json()
    assert (view["state"], view["attempt"], view["error"]) == ("finished", 1, None)
    judgement = verify(graph_from_document(graph), plan_from_document(view["plan"]))
    assert view["cost"] == pytest.approx(judgement.energy_joules)
    assert (view["gap"], view["elapsed_seconds"]) == (0.0, 2.0)
    assert view["created_at"] <= view["started_at"] <= view["finished_at"]
    summary = view["summary"]
    assert summary["peak_bytes"] == judgement.peak_bytes == summary["keep_everything_bytes"]
    assert summary["floor_bytes"] == 3 * 4096 < summary["peak_bytes"]
    assert summary["line"].startswith("fits: peak")


def test_what_is_stored_is_answered_at_once_and_without_a_new_job(make_client, held, request_body):
    client = make_client(held)
    client.post("/v1/plans", json=request_body)
    held.begin(held.submitted[0])
    held.end(held.submitted[0])
    answers = [client.post("/v1/plans", json=request_body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert all(answer.json()["plan"] for answer in answers)
    # The first POST's job, and one more for all later ones: its answer was not there yet.
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/v1/plans").json()["jobs"]) == 2
    assert len(held.submitted) == 1


def test_the_same_request_written_otherwise_is_the_same(client, request_body):
    first = ask(client, request_body)
    spelled = request_body | {
        "objective": "energy",
        "allowed": {"page": True},
        "planner": {"backend": "auto"},
    }
    again = client.post("/v1/plans", json=spelled)
    assert (again.status_code, again.json()["plan"]) == (200, first["plan"])


def test_what_was_posted_while_it_is_solved_joins_the_solve(make_client, held, request_body):
    client = make_client(held)
    first, second = (client.post("/v1/plans", json=request_body).json() for _ in range(2))
    assert first["id"] != second["id"]
    assert len(held.submitted) == 1


def test_tenants_share_nothing_tokens_of_one_share_solves(make_client, held, store, request_body):
    tokens = [new_token(store, tenant)[1] for tenant in ("one", "one", "two")]
    client = make_client(held)
    for headers in tokens:
        assert client.post("/v1/plans", json=request_body, headers=headers).status_code == 202
    assert len(held.submitted) == 2


def test_another_tokens_job_is_unknown(make_client, held, store, request_body):
    (_, mine), (_, theirs) = new_token(store, "one"), new_token(store, "one")
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body, headers=mine).headers["location"]
    for method, address in [
        ("GET", path), ("GET", f"{path}/events"), ("GET", f"{path}/plan"), ("GET", f"{path}/log"),
        ("DELETE", path), ("DELETE", f"{path}?discard=true"),
    ]:  # fmt: skip
        check_problem(client.request(method, address, headers=theirs), 404, "plan_unknown")
    assert client.get("/v1/plans", headers=theirs).json() == {"jobs": [], "next": None}
    assert client.get(path, headers=mine).json()["state"] == "queued"


@pytest.mark.parametrize("name", ["0" * 32, "1", "%00", "<script>", "A" * 32, "0" * 33])
def test_an_unknown_job(client, name):
    for path in (f"/v1/plans/{name}", f"/v1/frontiers/{name}"):
        response = client.get(path)
        assert response.json()["code"] in {"plan_unknown", "frontier_unknown"}
        check_problem(response, 404, response.json()["code"])
        assert "script" not in response.text


def test_a_frontier_is_no_plan_job_nor_the_other_way(client, request_body):
    plan_job = ask(client, request_body)["id"]
    body = request_body | {"ram_bytes": [32768]}
    del body["budget"]
    frontier = client.post("/v1/frontiers", json=body).json()["id"]
    check_problem(client.get(f"/v1/frontiers/{plan_job}"), 404, "frontier_unknown")
    check_problem(client.delete(f"/v1/frontiers/{plan_job}"), 404, "frontier_unknown")
    check_problem(client.get(f"/v1/plans/{frontier}"), 404, "plan_unknown")
    check_problem(client.delete(f"/v1/plans/{frontier}"), 404, "plan_unknown")


def test_an_idempotency_key_makes_a_retry_the_same_job(make_client, held, request_body):
    client = make_client(held)
    key = {"Idempotency-Key": "order 66"}
    first, again = (client.post("/v1/plans", json=request_body, headers=key) for _ in range(2))
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = client.post("/v1/plans", json=other_body(request_body), headers=key)
    check_problem(other, 422, "idempotency_conflict")
    held.begin(held.submitted[0])
    held.end(held.submitted[0])
    last = client.post("/v1/plans", json=request_body, headers=key)
    assert (last.status_code, last.json()["id"]) == (200, first.json()["id"])


@pytest.mark.parametrize("key", ["", "k" * 201, "tab\there", "é".encode("latin-1")])
def test_an_idempotency_key_that_is_none(client, request_body, key):
    response = client.post("/v1/plans", json=request_body, headers={"Idempotency-Key": key})
    check_problem(response, 422, "parameter_invalid")


def test_full_queues_and_busy_tokens(make_client, held, store, request_body):
    _, headers = new_token(store, most_active_jobs=2)
    client = make_client(held, queue_depth=3, retry_after_seconds=7)
    answers = [
        client.post("/v1/plans", json=other_body(request_body, number), headers=headers)
        for number in range(3)
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    check_problem(answers[2], 429, "too_many_jobs")
    assert answers[2].headers["retry-after"] == "7"
    _, others = new_token(store)
    answers = [
        client.post("/v1/plans", json=other_body(request_body, number), headers=others)
        for number in (10, 11)
    ]
    assert answers[0].status_code == 202
    check_problem(answers[1], 429, "queue_full")


def test_a_body_that_was_turned_away_is_not_read_again(
    make_client, held, store, request_body, monkeypatch
):
    read = []
    monkeypatch.setattr(
        desk, "read_asked", lambda body, settings: read.append(body) or read_asked(body, settings)
    )
    client = make_client(held, active_jobs_per_token=1)
    first = client.post("/v1/plans", json=other_body(request_body)).json()
    key = {"Idempotency-Key": "mine"}
    for headers in ({}, key, key):
        refused = client.post("/v1/plans", json=request_body, headers=headers)
        check_problem(refused, 429, "too_many_jobs")
    assert len(read) == 2
    client.delete(f"/v1/plans/{first['id']}")
    taken = client.post("/v1/plans", json=request_body, headers=key)
    assert (taken.status_code, len(read)) == (202, 2)
    stored = parse_json(store.request(held.submitted[-1]))
    assert stored["budget"] == request_body["budget"]
    again = client.post("/v1/plans", json=request_body, headers=key)
    assert again.json()["id"] == taken.json()["id"]


# -- plans to start from ------------------------------------------------------------------------


def test_a_plan_to_start_from_reaches_the_solve(make_client, held, store, request_body):
    client = make_client(held)
    client.post("/v1/plans", json=request_body)
    plan = plan_to_document(held.plan(held.submitted[0]))
    started = client.post("/v1/plans", json=other_body(request_body) | {"warm_start": plan})
    assert started.status_code == 202
    assert parse_json(store.warm_start(held.submitted[1])) == plan
    plain = client.post("/v1/plans", json=other_body(request_body))
    assert plain.status_code == 202
    assert len(held.submitted) == 3  # another start is another question
    assert store.warm_start(held.submitted[2]) is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"graph_sha256": "0" * 64}, "plan_for_other_graph"),
        ({"instructions": []}, "warm_start_refused"),
        ({"claims": None}, "wrong_type"),
        ({"extra": 1}, "unknown_field"),
    ],
)
def test_a_plan_to_start_from_that_is_none(make_client, held, request_body, change, code):
    client = make_client(held)
    client.post("/v1/plans", json=request_body)
    plan = plan_to_document(held.plan(held.submitted[0])) | change
    response = client.post("/v1/plans", json=request_body | {"warm_start": plan})
    assert check_problem(response, 422, code)["path"].startswith("$.warm_start")
    assert len(held.submitted) == 1


# -- what the database may have become ------------------------------------------------------------


def test_limits_and_choices_reach_the_solve(make_client, held, request_body):
    body = request_body | {
        "budget": {"ram_bytes": 32000, "time_ratio": 1.5, "flash_write_bytes": 7},
        "objective": "time",
        "allowed": {"reorder": False},
        "planner": {"backend": "highs", "wall_seconds": 12.5},
    }
    assert make_client(held).post("/v1/plans", json=body).status_code == 202
    problem = held.problem(held.submitted[0])
    assert problem.budget.ram_bytes == 32000
    assert problem.budget.flash_write_bytes == 7
    assert problem.budget.step_seconds == pytest.approx(1.5 * problem.costs.base_seconds)
    assert str(problem.objective) == "time"
    assert not problem.allowed.reorder
    assert problem.allowed.page
    asked = parse_json(held.store.request(held.submitted[0]))
    assert asked["planner"]["backend"] == "highs"
    assert asked["planner"]["wall_seconds"] == 12.5
    assert held.store.solve(held.submitted[0]).wall_seconds == 12.5


def test_a_budget_below_the_floor_is_refused_with_the_least_one(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"budget": {"ram_bytes": 1024}})
    problem = check_problem(response, 422, "ram_below_floor")
    assert problem["floor_bytes"] == 3 * 4096
    assert isinstance(problem["op"], int)
    assert "12288" in problem["hint"]


@pytest.mark.parametrize(
    ("limit", "code"),
    [({"step_seconds": 1e-9}, "time_below_base"), ({"energy_joules": 1e-12}, "energy_below_base")],
)
def test_a_limit_below_every_op_once_is_refused_at_once(client, request_body, limit, code):
    body = request_body | {"budget": {"ram_bytes": 16400} | limit}
    assert check_problem(client.post("/v1/plans", json=body), 422, code)["base"] > 0


def test_more_ram_than_the_device_has(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"budget": {"ram_bytes": 2**30}})
    check_problem(response, 422, "ram_above_device")


def test_an_unknown_device_with_what_was_meant(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"device": "mkr-1000"})
    problem = check_problem(response, 422, "unknown_device")
    assert problem["hint"].startswith("Did you mean mkr1000")


def test_a_service_that_ends_answers_who_waits(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    got = in_thread(lambda: client.get(f"{path}?wait=20").json())
    time.sleep(0.1)
    client.portal.call(client.app_under_test.leave)
    assert got()["state"] == "queued"
