"""Plans that were stored: judged when read back, solved anew where they are damaged."""

import sqlite3

import pytest

from poet_core.baseline import keep_everything
from tests.service.conftest import (
    QuickExecutor,
    ask,
    plan_of,
    plan_text,
)


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
