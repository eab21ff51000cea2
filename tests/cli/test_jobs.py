"""poet jobs: what a service works on, seen and stopped."""

import json

import pytest

from poet_cli.job_report import event_line
from poet_client.views import JobEvent
from poet_core.plan_document import plan_to_document, read_plan
from tests.client.conftest import hasty, request_for
from tests.client.fake_service import fake_service, finish, keep_everything_plan

EVIL = "\x1b[2J[bold]\u202ename"


def running(job):
    """A job with a plan that goes on for ever."""
    if job.root == "/v1/plans":
        job.plan = plan_to_document(keep_everything_plan(job.request))
        job.log = "first line\nsecond \x1b[2J line\n"
    job.say("state", state="running")
    job.say("incumbent", cost=2.0, bound=1.0, gap=0.5, by=EVIL)


@pytest.fixture
def server(monkeypatch):
    with fake_service(running) as (service, url):
        monkeypatch.setenv("POET_SERVER", url)
        service.url = url
        yield service


@pytest.fixture
def job_id(server, graph):
    return hasty(server.url).submit(request_for(graph)).job_id


def test_the_list(poet, server, graph):
    ids = [
        hasty(server.url).submit(request_for(graph, ram_bytes=32768 - n)).job_id for n in range(3)
    ]
    result = poet("jobs", "list", "--limit", "2")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [ids[2], ids[1]]
    assert "running" in lines[1]
    assert "50.00%" in lines[1]
    assert lines[3] == "older ones: --before 2"
    page = poet("jobs", "list", "--before", "2", "--json").json
    assert (page["ok"], page["next"]) == (True, None)
    assert [one["id"] for one in page["jobs"]] == [ids[0]]


def test_showing_one(poet, server, job_id, documents):
    plain = poet("jobs", "show", job_id)
    assert plain.code == 0
    assert plain.out.startswith(f"{job_id}  running: Plans are being looked for.")
    assert "1970-01-01 00:00:01 UTC" in plain.out
    found = poet("jobs", "show", job_id, "-o", "best.json", "--json").json
    assert (found["state"], found["gap"], found["has_plan"]) == ("running", 0.5, True)
    assert read_plan((documents / "best.json").read_bytes()).budget.ram_bytes == 32768
    assert poet("verify", "graph.json", "best.json").code == 0
    assert json.loads(poet("jobs", "show", job_id, "-o", "-").out)["schema"] == "poet.plan/1"


def test_watching_one(poet, server, job_id):
    finish(server.jobs[job_id])
    result = poet("jobs", "watch", job_id)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "state  state=running"
    assert lines[1].startswith("incumbent  bound=1  by=\\u001b[2J[bold]")
    assert lines[-1] == "done  state=finished"
    assert "\x1b" not in result.out
    documents = [
        json.loads(line)
        for line in poet("jobs", "watch", job_id, "--after", "1", "--json").out.splitlines()
    ]
    assert [(one["id"], one["event"]) for one in documents] == [
        ("2", "incumbent"), ("3", "state"), ("4", "done"),
    ]  # fmt: skip


def test_watching_one_that_fails(poet, server, job_id):
    error = {"code": "not_found_in_time", "detail": f"None {EVIL}.", "hint": "", "kind": "planning"}
    server.jobs[job_id].end("failed", error=error)
    result = poet("jobs", "watch", job_id)
    assert (result.code, "[not_found_in_time]" in result.err) == (3, True)
    assert "\x1b" not in result.out + result.err
    assert "error    None" in poet("jobs", "show", job_id).out


def test_the_log(poet, server, job_id):
    result = poet("jobs", "log", job_id)
    assert (result.code, result.out) == (0, "first line\nsecond \\u001b[2J line\n")
    server.jobs[job_id].end("stopped")
    assert poet("jobs", "log", job_id, "--follow", "--offset", "6").out.startswith("line\n")
    pieces = [json.loads(line) for line in poet("jobs", "log", job_id, "--json").out.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == server.jobs[job_id].log
    assert [piece["done"] for piece in pieces][-1] is True


def test_cancelling_keeps_or_erases(poet, server, job_id):
    kept = poet("jobs", "cancel", job_id)
    assert (kept.code, "stopped; what was found is kept" in kept.out) == (0, True)
    assert server.job.state == "stopped"
    assert poet("jobs", "cancel", job_id, "--json").json["has_plan"]
    erased = poet("jobs", "cancel", job_id, "--discard", "--json")
    assert erased.json == {"ok": True, "id": job_id, "discarded": True}
    gone = poet("jobs", "cancel", job_id, "--discard")
    assert (gone.code, "[job_unknown]" in gone.err) == (3, True)


def test_a_frontier_is_a_job_too(poet, server, graph):
    job_id = hasty(server.url).submit_frontier(request_for(graph), [32768, 32767]).job_id
    server.job.points = [
        {"ram_bytes": 32768, "state": "running"}, {"ram_bytes": 32767, "state": "queued"},
    ]  # fmt: skip
    assert "32.0 KiB  running" in poet("jobs", "show", job_id).out
    assert [p["ram_bytes"] for p in poet("jobs", "show", job_id, "--json").json["points"]] == [
        32768, 32767,
    ]  # fmt: skip
    refused = poet("jobs", "show", job_id, "-o", "x.json", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "job_is_frontier")
    assert "[job_is_frontier]" in poet("jobs", "log", job_id).err
    assert poet("jobs", "cancel", job_id).code == 0
    assert poet("jobs", "watch", job_id).out.splitlines()[-1] == "done  state=stopped"


@pytest.mark.parametrize("command", ["show", "watch", "log", "cancel"])
def test_jobs_that_are_not_there(poet, server, command):
    unknown = poet("jobs", command, "f" * 32, "--json")
    assert (unknown.code, unknown.json["error"]["code"]) == (3, "job_unknown")
    none = poet("jobs", command, "../x", "--json")
    assert (none.code, none.json["error"]["code"]) == (2, "job_id_invalid")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("list", "--limit", "0"), "usage"),
        (("list", "--before", "a b"), "cursor_invalid"),
        (("list", "--server", "nowhere"), "server_invalid"),
        (("list", "--server", "http://192.0.2.1", "--token", "t" * 20), "token_insecure"),
        (("list", "--token", "t"), "token_invalid"),
        (("log", "f" * 32, "--offset", "-1"), "usage"),
        (("nonsense",), "command_unknown"),
    ],
)
def test_wrong_usage(poet, server, arguments, code):
    result = poet("jobs", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


def test_help_has_examples(poet):
    for command in ("list", "show", "watch", "log", "cancel"):
        text = poet("jobs", command, "--help").out
        assert f"poet jobs {command}" in text
        assert "Examples:" in text


def test_an_event_is_a_line_with_its_time_and_figures_for_people():
    event = JobEvent(
        event_id="3",
        kind="incumbent",
        data={
            "at": 0.0,
            "seq": 3,
            "cost": 82.784,
            "gap": 0.0028,
            "elapsed_seconds": 0.26,
            "by": "x",
        },
    )
    line = event_line(event)
    assert line == "1970-01-01 00:00:00 UTC  incumbent  by=x  cost=82.784  elapsed=0.3 s  gap=0.28%"
    wild = JobEvent(event_id="4", kind="\x1b[2J", data={"at": 1e300, "name": "\x1b]0;x\x07"})
    assert "\x1b" not in event_line(wild)
