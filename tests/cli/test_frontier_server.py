"""poet frontier and poet least-ram --server: the same table, the same store, Ctrl-C, planning here
instead."""

import json
from dataclasses import replace

import pytest

from poet_core.plan_document import plan_to_document, read_plan
from poet_core.verify import verify
from tests.cli.interrupting import interrupting
from tests.client.fake_service import fake_service, keep_everything_plan

BOARD = ("--device", "mkr1000")
KEEP_BYTES = 20488  # what keeping everything of the small graph takes
BUDGETS = ("--ram", "32768B", "--ram", "32000B")


def planned(job):
    """Everything is kept in every budget."""
    for ram_bytes in job.ram_bytes:
        plan = keep_everything_plan(replace(job.request, ram_bytes=ram_bytes))
        job.points.append(
            {"ram_bytes": ram_bytes, "state": "finished", "plan": plan_to_document(plan)}
        )
    job.end("finished")


def half_planned(job):
    planned(job)
    job.state, job.events = "running", []
    job.points[1] |= {"state": "running", "plan": None}


def test_the_same_table_and_store(poet, documents):
    with fake_service(planned) as (_, url):
        result = poet(
            "frontier",
            "graph.json",
            *BOARD,
            *BUDGETS,
            "--server",
            url,
            "--plot",
            "f.svg",
            "--plans",
            "plans",
        )
        assert result.code == 0, result.err
        found = poet("frontier", "graph.json", *BOARD, *BUDGETS, "--server", url, "--json").json
    assert result.out.splitlines()[0].split()[0] == "RAM"
    assert "32.0 KiB" in result.out
    assert [one["ending"] for one in found["points"]] == ["planned", "planned"]
    assert (documents / "f.svg").exists()
    assert sorted(path.name for path in (documents / "plans").iterdir()) == [
        "32000.plan.json", "32768.plan.json",
    ]  # fmt: skip
    stored = (documents / "frontier.jsonl").read_text().splitlines()
    assert [json.loads(line)["schema"] for line in stored] == ["poet.frontier/1"] * 2


def test_what_is_stored_is_not_asked_again(poet, documents):
    with fake_service(planned) as (service, url):
        asked = ("frontier", "graph.json", *BOARD, "--server", url, "--json")
        poet(*asked, *BUDGETS)
        again = poet(*asked, *BUDGETS, "--ram", "31000B", "--resume").json
    assert [one["resumed"] for one in again["points"]] == [True, True, False]
    assert [job.ram_bytes for job in service.jobs.values()] == [[32768, 32000], [31000]]


def test_budgets_that_cannot_be_met(poet, documents):
    with fake_service(planned) as (service, url):
        result = poet("frontier", "graph.json", *BOARD, "--ram", "1KiB", "--server", url)
    assert (result.code, "impossible, proven" in result.out) == (1, True)
    assert service.seen == []


@pytest.mark.parametrize(
    "option", [("--jobs", "2"), ("--moves", "5"), ("--seed", "1"), ("--total-seconds", "5")]
)
def test_options_that_say_how_to_plan_here(poet, documents, option):
    result = poet(
        "frontier", "graph.json", *BOARD, "--server", "http://127.0.0.1:1", *option, "--json"
    )
    assert (result.code, result.json["error"]["code"]) == (2, "option_is_local")


def test_without_a_server(poet, documents, nobody, at_once):
    asked = ("frontier", "graph.json", *BOARD, *BUDGETS, "--server", nobody)
    gone = poet(*asked)
    assert (gone.code, "[server_unreachable]" in gone.err) == (3, True)
    here = poet(*asked, "--fallback", "local", "--seconds", "0.5", "--json")
    assert (here.code, "Planning here instead" in here.err) == (0, True)
    assert len(here.json["points"]) == 2


def test_ctrl_c_keeps_what_is_finished(poet, documents):
    with interrupting(half_planned) as (service, url):
        result = poet("frontier", "graph.json", *BOARD, *BUDGETS, "--server", url)
        assert service.job.state == "stopped"
    assert result.code == 130
    assert "what is finished is kept" in result.err
    assert "not tried" in result.out
    assert len((documents / "frontier.jsonl").read_text().splitlines()) == 1


def test_the_least_ram_with_plans_from_a_server(poet, documents, graph):
    """The fake keeps everything where that fits, and finds nothing where not."""

    def keep(job):
        if job.request.ram_bytes >= KEEP_BYTES:
            job.end(plan=plan_to_document(keep_everything_plan(job.request)))
            return
        error = {"code": "not_found_in_time", "detail": "None.", "hint": "", "kind": "planning"}
        job.end("failed", error=error)

    with fake_service(keep) as (service, url):
        result = poet(
            "least-ram", "graph.json", *BOARD, "--overhead", "5%", "--server", url, "--json"
        )
    assert result.code == 0, result.out
    found = result.json
    assert found["ram_bytes"] == found["keep_everything_bytes"] == KEEP_BYTES
    assert found["ending"] == "bisected"
    assert found["tries"] == len(service.jobs) >= 3
    assert found["proven_above_bytes"] < found["floor_bytes"]
    plan = read_plan((documents / "plan.json").read_bytes())
    assert verify(graph, plan).peak_bytes == KEEP_BYTES


def test_a_plan_that_is_cheap_enough_ends_a_try(poet, documents):
    """The server would look for ever; the first plan it tells of will do."""
    plans = {}

    def better(job):
        from poet_solvers.backends import SolveLimits
        from poet_solvers.planner import plan

        found = plan(job.request.problem(), limits=SolveLimits(wall_seconds=1.0, moves=2000))
        plans[job.request.ram_bytes] = found
        job.plan = plan_to_document(found)
        job.say("state", state="running")
        job.say("incumbent", cost=found.objective_value, bound=None, gap=None)

    with fake_service(better) as (service, url):
        result = poet(
            "least-ram", "graph.json", *BOARD, "--overhead", "900%", "--server", url, "--json"
        )
    assert result.code == 0, result.out
    assert {job.state for job in service.jobs.values()} == {"stopped"}
    assert result.json["ram_bytes"] == min(plan.claims.peak_bytes for plan in plans.values())
