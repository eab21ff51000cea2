"""POST /v1/plans and its jobs: stored, shared within a tenant, owned by a token, judged."""

import sqlite3
import threading
import time

import pytest

from poet_core.baseline import keep_everything
from poet_core.documents import parse_json
from poet_core.errors import PlanningError
from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.verify import verify
from poet_service.jobs import desk
from poet_service.jobs.asked import read_asked
from poet_service.problems import error_document
from tests.service.conftest import (
    QuickExecutor,
    check_problem,
    new_token,
    other_body,
    plan_of,
    plan_text,
)


def ask(client, body, **more):
    """A job's view, ended."""
    response = client.post("/v1/plans", params={"wait": 20}, json=body, **more)
    assert response.status_code == 200, response.text
    return response.json()


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


@pytest.mark.parametrize(("query", "prefer"), [("?wait=20", ""), ("", "respond-async, wait=20")])
def test_a_post_may_wait_for_the_end(make_client, held, request_body, query, prefer):
    client = make_client(held)
    post = in_thread(
        lambda: client.post(f"/v1/plans{query}", json=request_body, headers={"Prefer": prefer})
    )
    eventually(lambda: held.submitted)
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    held.end(held.submitted[0])
    response = post()
    assert (response.status_code, response.json()["state"]) == (200, "finished")


def test_a_long_poll_is_woken_at_the_end_and_not_before(make_client, held, request_body):
    client = make_client(held, poll_seconds=10)  # only the executor's word wakes it in time
    path = client.post("/v1/plans", json=request_body).headers["location"]
    got = in_thread(lambda: (client.get(f"{path}?wait=20").json(), time.monotonic()))
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    time.sleep(0.2)
    ended = time.monotonic()
    held.end(held.submitted[0])
    view, woken = got()
    assert view["state"] == "finished"
    assert ended < woken < ended + 5


def test_a_wait_ends_with_what_there_is(make_client, held, request_body):
    client = make_client(held, most_wait_seconds=0.05)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    view = client.get(f"{path}?wait=20").json()
    assert (view["state"], view["gap"], view["elapsed_seconds"]) == ("running", 0.5, 1.0)
    assert view["plan"]["claims"]["peak_bytes"] == view["summary"]["peak_bytes"]
    assert client.get(path).json() == view  # asking takes nothing away


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "x", ""])
def test_a_wait_that_makes_no_sense(client, request_body, wait):
    response = client.post(f"/v1/plans?wait={wait}", json=request_body)
    assert check_problem(response, 422, "parameter_invalid")["parameter"] == "wait"


def test_a_stopped_job_keeps_its_best_plan(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    stopped = client.delete(path)
    assert (stopped.status_code, held.stopped) == (200, held.submitted)
    view = stopped.json()
    assert (view["state"], view["cost"]) == ("stopped", view["summary"]["energy_joules"])
    held.halt(held.submitted[0])
    assert client.get(path).json() == view
    assert client.delete(path).json() == view
    assert client.get(f"{path}/plan").json() == view["plan"]


def test_a_solve_goes_on_for_those_who_stay(make_client, held, request_body):
    client = make_client(held)
    first, second = (
        client.post("/v1/plans", json=request_body).headers["location"] for _ in range(2)
    )
    held.begin(held.submitted[0])
    assert client.delete(first).json()["state"] == "stopped"
    assert held.stopped == []
    held.end(held.submitted[0])
    assert client.get(second).json()["state"] == "finished"
    left = client.get(first).json()
    assert (left["state"], left["plan"]) == ("stopped", None)
    check_problem(client.get(f"{first}/plan"), 409, "no_plan")


def test_an_ended_job_is_not_changed_by_stopping(client, request_body):
    view = ask(client, request_body)
    assert client.delete(view["links"]["self"]).json() == view


def test_a_discarded_job_is_gone_and_may_be_asked_again(make_client, store, request_body):
    executor = QuickExecutor(store)
    client = make_client(executor)
    ask(client, request_body)
    view = ask(client, request_body)
    gone = client.delete(f"/v1/plans/{view['id']}?discard=true")
    assert (gone.status_code, gone.content) == (204, b"")
    for path in view["links"].values():
        check_problem(client.get(path), 404, "plan_unknown")
    check_problem(client.delete(view["links"]["self"]), 404, "plan_unknown")
    again = ask(client, request_body)
    assert again["id"] != view["id"]


def test_a_wait_for_a_job_that_is_stopped_meanwhile_ends(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    got = in_thread(lambda: client.get(f"{path}?wait=20").json())
    time.sleep(0.1)
    client.delete(path)
    assert got()["state"] == "stopped"


def test_a_job_that_failed_says_why(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    error = PlanningError("Not found.", code="not_found_in_time", hint="Give it more.")
    held.fail(held.submitted[0], error_document(error))
    view = client.get(path).json()
    assert (view["state"], view["plan"]) == ("failed", None)
    assert view["error"] == {
        "code": "not_found_in_time", "detail": "Not found.", "hint": "Give it more.",
        "kind": "planning",
    }  # fmt: skip
    check_problem(client.get(f"{path}/plan"), 409, "no_plan")
    # What failed is not what is stored: the next one is tried.
    assert client.post("/v1/plans", json=request_body).status_code == 202
    assert len(held.submitted) == 2


def test_no_plan_yet(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    check_problem(client.get(f"{path}/plan"), 409, "no_plan_yet")


def test_the_log_in_parts(make_client, held, store, request_body):
    client = make_client(held, log_chunk_bytes=1024)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    solve_id = held.submitted[0]
    attempt = held.begin(solve_id).attempt
    assert store.log(solve_id, attempt, "ä" * 700)
    assert store.log(solve_id, attempt, "<end>")
    first = client.get(f"{path}/log").json()
    assert (first["text"], first["next_offset"], first["done"]) == ("ä" * 512, 1024, False)
    second = client.get(f"{path}/log", params={"offset": 1024}).json()
    assert (second["text"], second["done"]) == ("ä" * 188 + "<end>", False)
    held.end(solve_id)
    last = client.get(f"{path}/log", params={"offset": second["next_offset"]}).json()
    assert last == {"text": "", "next_offset": second["next_offset"], "done": True}
    check_problem(client.get(f"{path}/log?offset=-1"), 422, "parameter_invalid")


def test_jobs_in_pages(make_client, held, request_body):
    client = make_client(held)
    posted = [
        client.post("/v1/plans", json=other_body(request_body, number)).json()["id"]
        for number in range(5)
    ]
    first = client.get("/v1/plans?limit=2").json()
    second = client.get(f"/v1/plans?limit=2&before={first['next']}").json()
    third = client.get(f"/v1/plans?limit=2&before={second['next']}").json()
    listed = [job["id"] for page in (first, second, third) for job in page["jobs"]]
    assert (listed, third["next"]) == (posted[::-1], None)
    assert "plan" not in first["jobs"][0]
    for query in ("limit=0", "limit=101", "before=x"):
        check_problem(client.get(f"/v1/plans?{query}"), 422, "parameter_invalid")


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


def damage(tmp_path, text):
    with sqlite3.connect(tmp_path / "poet.db") as connection:
        assert connection.execute("UPDATE solve_plans SET plan = ?", (text,)).rowcount == 1
    connection.close()


def other_plan(held, solve_id):
    problem = held.problem(solve_id)
    plan = plan_of(problem, keep_everything(problem.graph))
    return plan_text(plan).replace(b'"device":"mkr1000"', b'"device":"another"')


@pytest.mark.parametrize("what", ["not json", "another problem", "cheating"])
def test_a_damaged_plan_is_never_shown(make_client, held, tmp_path, request_body, what):
    make_client(held).post("/v1/plans", json=request_body)
    solve_id = held.submitted[0]
    held.begin(solve_id)
    held.end(solve_id)
    good = plan_text(held.plan(solve_id))
    text = {
        "not json": good[:-7],
        "another problem": other_plan(held, solve_id),
        "cheating": good.replace(b'"peak_bytes":20488', b'"peak_bytes":20487'),
    }[what]
    assert text != good
    damage(tmp_path, text)
    client = make_client(held)  # a process that has not seen the plan yet
    (listed,) = client.get("/v1/plans").json()["jobs"]
    view = client.get(listed["links"]["self"]).json()
    assert (view["state"], view["plan"]) == ("failed", None)
    assert view["error"]["code"] == "stored_plan_invalid"
    again = client.get(listed["links"]["self"]).json()
    assert (again["state"], again["error"]["code"]) == ("failed", "stored_plan_invalid")
    assert client.post("/v1/plans", json=request_body).status_code == 202
    assert len(held.submitted) == 2  # solved anew


def test_a_post_that_finds_a_damaged_plan_solves_anew(make_client, held, tmp_path, request_body):
    make_client(held).post("/v1/plans", json=request_body)
    held.begin(held.submitted[0])
    held.end(held.submitted[0])
    damage(tmp_path, b"{}")
    client = make_client(held)
    response = client.post("/v1/plans", json=request_body)
    assert (response.status_code, response.json()["state"]) == (202, "queued")
    assert len(held.submitted) == 2


def test_a_plan_erased_elsewhere_is_not_given_from_memory(
    make_client, store, tmp_path, request_body
):
    executor = QuickExecutor(store)
    client, other = make_client(executor), make_client(executor)
    ask(client, request_body)
    view = ask(client, request_body)
    damage(tmp_path, b"{}")
    assert other.get(view["links"]["self"]).json()["state"] == "failed"
    assert ask(client, request_body)["id"] != view["id"]
    assert len(executor.submitted) == 2


# -- what is refused at once ------------------------------------------------------------------------


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
