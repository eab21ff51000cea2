"""POST /v1/plans and GET /v1/plans/{id}: what comes back is judged, remembered and bounded."""

import dataclasses
import threading

import pytest

from poet_core.errors import BudgetError, PlanningError
from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_from_document
from poet_core.verify import verify
from tests.service.conftest import (
    WaitingPlanner,
    check_problem,
    keep_everything_planner,
    make_client,
)


def test_a_plan_comes_back_with_its_summary(client, request_body, graph):
    response = client.post("/v1/plans", json=request_body)
    assert response.status_code == 200
    answer = response.json()
    plan = plan_from_document(answer["plan"])
    judgement = verify(graph_from_document(graph), plan)
    summary = answer["summary"]
    assert summary["peak_bytes"] == judgement.peak_bytes == summary["keep_everything_bytes"]
    assert summary["floor_bytes"] == 3 * 4096 < summary["peak_bytes"]
    assert summary["floor_set_by"].startswith("op ")
    assert summary["time_ratio"] == 1.0
    assert summary["line"].startswith("fits: peak")


def test_the_same_plan_again_by_its_id(client, request_body):
    posted = client.post("/v1/plans", json=request_body)
    assert len(posted.json()["id"]) == 32
    assert posted.headers["location"] == f"/v1/plans/{posted.json()['id']}"
    again = client.get(posted.headers["location"])
    assert (again.status_code, again.content) == (200, posted.content)


@pytest.mark.parametrize("name", ["0" * 32, "1", "%00", "<script>"])
def test_an_unknown_id(client, name):
    problem = check_problem(client.get(f"/v1/plans/{name}"), 404, "plan_unknown")
    assert "script" not in str(problem)


def test_old_plans_give_way(request_body):
    client = make_client(stored_plans=2)
    first, second = (client.post("/v1/plans", json=request_body).json()["id"] for _ in range(2))
    client.get(f"/v1/plans/{first}")  # used again: the second is the older one now
    third = client.post("/v1/plans", json=request_body).json()["id"]
    found = [client.get(f"/v1/plans/{item}").status_code for item in (first, second, third)]
    assert found == [200, 404, 200]


def test_stored_plans_are_bounded_in_bytes(request_body):
    client = make_client(stored_bytes=100)
    answer = client.post("/v1/plans", json=request_body)
    assert answer.status_code == 200
    check_problem(client.get(answer.headers["location"]), 404, "plan_unknown")


def test_limits_and_choices_reach_the_planner(request_body):
    seen = []

    def planner(problem, **how):
        seen.append((problem, how))
        return keep_everything_planner(problem, **how)

    body = request_body | {
        "budget": {"ram_bytes": 32000, "time_ratio": 1.5, "flash_write_bytes": 7},
        "objective": "time",
        "allowed": {"reorder": False},
        "planner": {"backend": "highs", "wall_seconds": 12.5},
    }
    assert make_client(planner).post("/v1/plans", json=body).status_code == 200
    problem, how = seen[0]
    assert problem.budget.ram_bytes == 32000
    assert problem.budget.flash_write_bytes == 7
    assert problem.budget.step_seconds == pytest.approx(1.5 * problem.costs.base_seconds)
    assert str(problem.objective) == "time"
    assert not problem.allowed.reorder
    assert problem.allowed.page
    assert (how["backend"], how["wall_seconds"]) == ("highs", 12.5)


def test_an_own_profile(request_body):
    from poet_service.openapi import EXAMPLES

    client = make_client()
    device = EXAMPLES["own_profile"]["value"]["device"]
    answer = client.post("/v1/plans", json=request_body | {"device": device})
    assert answer.json()["plan"]["problem"]["device"] == "my-board"


def test_a_budget_below_the_floor_is_refused_with_the_least_one(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"budget": {"ram_bytes": 1024}})
    problem = check_problem(response, 422, "ram_below_floor")
    assert problem["floor_bytes"] == 3 * 4096
    assert isinstance(problem["op"], int)
    assert "12288" in problem["hint"]


def test_more_ram_than_the_device_has(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"budget": {"ram_bytes": 2**30}})
    check_problem(response, 422, "ram_above_device")


def test_an_unknown_device_with_what_was_meant(client, request_body):
    response = client.post("/v1/plans", json=request_body | {"device": "mkr-1000"})
    problem = check_problem(response, 422, "unknown_device")
    assert problem["hint"].startswith("Did you mean mkr1000")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BudgetError("No.", code="time_infeasible"), 422, "time_infeasible"),
        (PlanningError("Not found.", code="not_found_in_time"), 504, "not_found_in_time"),
    ],
)
def test_what_the_planner_refuses(error, status, code, request_body):
    def planner(problem, **how):
        raise error

    response = make_client(planner).post("/v1/plans", json=request_body)
    check_problem(response, status, code)


def test_a_plan_that_the_judge_refuses_never_leaves(request_body, caplog):
    def cheat(problem, **how):
        plan = keep_everything_planner(problem, **how)
        return dataclasses.replace(plan, claims=dataclasses.replace(plan.claims, peak_bytes=1))

    problem = check_problem(
        make_client(cheat).post("/v1/plans", json=request_body), 500, "internal"
    )
    assert problem["request_id"] in problem["hint"]
    assert "claim_mismatch" in caplog.text


def test_a_plan_for_another_problem_never_leaves(request_body, caplog):
    def cheat(problem, **how):
        plan = keep_everything_planner(problem, **how)
        return dataclasses.replace(plan, device_name="another")

    check_problem(make_client(cheat).post("/v1/plans", json=request_body), 500, "internal")
    assert "plan_for_other_problem" in caplog.text


def test_the_next_solve_is_refused_when_all_places_are_taken(request_body):
    planner = WaitingPlanner()
    client = make_client(planner, solves=1, retry_after_seconds=7)
    release = threading.Event()

    def waiting(problem, *, cancel, **how):
        planner.started.set()
        assert release.wait(20)
        return keep_everything_planner(problem, cancel=cancel, **how)

    client = make_client(waiting, solves=1, retry_after_seconds=7)
    answers = []
    with client:  # one event loop for both requests
        first = threading.Thread(
            target=lambda: answers.append(client.post("/v1/plans", json=request_body))
        )
        first.start()
        assert planner.started.wait(10)
        response = client.post("/v1/plans", json=request_body)
        check_problem(response, 429, "busy")
        assert response.headers["retry-after"] == "7"
        release.set()
        first.join(10)
        assert answers[0].status_code == 200
        assert client.post("/v1/plans", json=request_body).status_code == 200
