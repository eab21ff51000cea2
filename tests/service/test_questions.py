""":validate and :verify: what can be said without a job."""

import pytest

from poet_core.graph_document import graph_from_document
from poet_core.plan_document import plan_to_document
from tests.cli.conftest import plan_for
from tests.service.conftest import check_problem


def test_what_is_known_without_planning(client, store, request_body):
    answer = client.post("/v1/plans:validate", json=request_body)
    assert answer.status_code == 200
    known = answer.json()
    assert (known["ops"], known["storages"], known["references"]) == (8, 9, 19)
    assert known["floor_bytes"] == 3 * 4096
    assert known["floor_set_by"].startswith(f"op {known['floor_op']} ")
    assert known["keep_everything_bytes"] == 20488  # the judge's, aligned to 8 bytes
    assert known["keep_everything_fits"] is known["fits"] is True
    # 8 ops of 1e6 FLOPs, at the profile's rates
    assert known["lower_bound"]["step_seconds"] == pytest.approx(known["keep_everything_seconds"])
    assert known["lower_bound"]["holds_for"] == "any_order"
    assert sum(store.counts().values()) == 0


@pytest.mark.parametrize(
    ("budget", "code"),
    [
        ({"ram_bytes": 1024}, "ram_below_floor"),
        ({"ram_bytes": 2**40}, "ram_above_device"),
        ({"ram_bytes": 16400, "step_seconds": 1e-9}, "time_below_base"),
        ({"ram_bytes": 16400, "energy_joules": 1e-12}, "energy_below_base"),
    ],
)
def test_a_budget_that_cannot_be_met_is_an_answer(client, request_body, budget, code):
    known = client.post("/v1/plans:validate", json=request_body | {"budget": budget}).json()
    assert (known["fits"], known["refused"]["code"]) == (False, code)
    assert known["floor_bytes"] == 3 * 4096


def test_a_plan_to_start_from_is_looked_at_too(client, request_body, plan):
    good = client.post("/v1/plans:validate", json=request_body | {"warm_start": plan})
    assert good.json()["fits"] is True
    other = plan | {"graph_sha256": "0" * 64}
    response = client.post("/v1/plans:validate", json=request_body | {"warm_start": other})
    check_problem(response, 422, "plan_for_other_graph")


def test_a_request_without_sense_is_none(client, request_body):
    response = client.post("/v1/plans:validate", json=request_body | {"device": "nothing"})
    check_problem(response, 422, "unknown_device")
    response = client.post("/v1/plans:validate", json=request_body | {"objective": "glory"})
    check_problem(response, 422, "wrong_value")


@pytest.fixture
def plan(graph):
    return plan_to_document(plan_for(graph_from_document(graph)))


def test_the_judge_on_a_supplied_plan(client, request_body, plan):
    answer = client.post("/v1/plans:verify", json=request_body | {"plan": plan})
    assert answer.status_code == 200
    verdict = answer.json()
    assert (verdict["accepted"], verdict["claims_hold"], verdict["error"]) == (True, True, None)
    assert verdict["judgement"]["peak_bytes"] == plan["claims"]["peak_bytes"]
    assert verdict["summary"]["line"].startswith("fits: peak")


def test_a_plan_is_judged_under_the_budget_beside_it(client, request_body, plan):
    tight = request_body | {"budget": {"ram_bytes": 16400}, "plan": plan}
    verdict = client.post("/v1/plans:verify", json=tight).json()
    assert (verdict["accepted"], verdict["judgement"]) == (False, None)
    assert verdict["error"]["code"] == "ram_exceeded"
    assert verdict["error"]["kind"] == "plan"


def test_claims_that_do_not_hold_are_told(client, request_body, plan):
    plan["claims"]["peak_bytes"] -= 1
    verdict = client.post("/v1/plans:verify", json=request_body | {"plan": plan}).json()
    assert (verdict["accepted"], verdict["claims_hold"]) == (True, False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"graph_sha256": "0" * 64}, "plan_for_other_graph"),
        ({"instructions": []}, "op_never_ran"),
        ({"instructions": [{"do": "compute", "op": 99}]}, "unknown_op"),
    ],
)
def test_what_the_judge_refuses(client, request_body, plan, change, code):
    verdict = client.post("/v1/plans:verify", json=request_body | {"plan": plan | change}).json()
    assert (verdict["accepted"], verdict["error"]["code"]) == (False, code)


def test_a_plan_that_is_none(client, request_body, plan):
    for supplied, code in ((None, "missing_field"), ({}, "missing_field"), (5, "wrong_type")):
        response = client.post("/v1/plans:verify", json=request_body | {"plan": supplied})
        check_problem(response, 422, code)
