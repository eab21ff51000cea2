"""Jobs of plans: waited for, stopped, discarded, listed, with their log."""

import time

import pytest

from poet_core.errors import PlanningError
from poet_service.problems import error_document
from tests.service.conftest import (
    QuickExecutor,
    ask,
    check_problem,
    eventually,
    in_thread,
    other_body,
)


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
