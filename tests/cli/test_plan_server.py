"""poet plan --server: progress, Ctrl-C that keeps the best plan, and planning here instead."""

import contextlib
import threading

import pytest

from poet_cli.remote import ServerPlanner
from poet_cli.server_options import ServerChoice
from poet_core.errors import ServiceError
from poet_core.plan_document import plan_to_document, read_plan
from poet_core.plan_request import PlanRequest
from poet_core.verify import verify
from tests.cli.interrupting import interrupting
from tests.client.fake_service import fake_service, finish, keep_everything_plan, problem

BOARD = ("--device", "mkr1000")
TOKEN = "poet_" + "t" * 43


def incumbent(job):
    """A plan is there, and a better one is looked for for ever."""
    job.plan = plan_to_document(keep_everything_plan(job.request))
    job.say("state", state="running")
    job.say("incumbent", cost=2.0, bound=1.0, gap=0.5, elapsed_seconds=3.0, by="greedy")


def test_a_plan_from_a_server(poet, documents, graph):
    with fake_service() as (service, url):
        result = poet(
            "plan",
            "graph.json",
            *BOARD,
            "--server",
            url,
            "--token",
            TOKEN,
            "-o",
            "p.json",
            "--json",
        )
    assert (result.code, result.json["recomputed_ops"]) == (0, 0)
    assert verify(graph, read_plan((documents / "p.json").read_bytes())).peak_bytes <= 32768
    assert service.seen[0][2]["Authorization"] == f"Bearer {TOKEN}"


def test_a_model_is_written_only_here(poet, documents, nobody):
    refused = poet("plan", "graph.json", *BOARD, "--server", nobody, "--write-lp", "x.lp")
    assert (refused.code, "write_lp_remote" in refused.err) == (2, True)


def test_a_terminal_sees_progress(poet, documents, monkeypatch):
    from poet_cli.commands import plan as command

    shown = []

    @contextlib.contextmanager
    def watched(text, *, quiet):
        yield shown.append

    def life(job):
        incumbent(job)
        threading.Timer(0.2, finish, [job]).start()

    monkeypatch.setattr(command, "working", watched)
    with fake_service(life) as (_, url):
        assert poet("plan", "graph.json", *BOARD, "--server", url).code == 0
    assert "running, best 2 J, bound 1 J, gap 50.00%, 3 s at the server" in shown, shown


def test_without_a_server_there_is_a_clear_message(poet, documents, nobody, at_once):
    gone = poet("plan", "graph.json", *BOARD, "--server", nobody)
    assert (gone.code, gone.out) == (3, "")
    assert "[server_unreachable]" in gone.err
    assert "--fallback local" in gone.err


def test_or_the_plan_is_made_here(poet, documents, graph, nobody, at_once):
    result = poet(
        "plan", "graph.json", *BOARD, "--server", nobody, "--fallback", "local", "-o", "p.json"
    )
    assert result.code == 0
    assert "Planning here instead (--fallback local)" in result.err
    assert verify(graph, read_plan((documents / "p.json").read_bytes())).peak_bytes <= 32768


def test_also_where_the_server_is_out_of_order(poet, documents, at_once):
    down = lambda handler: problem(handler, 503, "database_unavailable") or True  # noqa: E731
    with fake_service() as (service, url):
        service.faults.extend([down] * 5)
        result = poet("plan", "graph.json", *BOARD, "--server", url, "--fallback", "local")
    assert (result.code, "Planning here instead" in result.err) == (0, True)


@pytest.mark.parametrize("status", [401, 403, 422, 500])
def test_a_server_that_says_no_is_not_gone_round(poet, documents, status):
    no = lambda handler: problem(handler, status, "no") or True  # noqa: E731
    with fake_service() as (service, url):
        service.faults.append(no)
        result = poet("plan", "graph.json", *BOARD, "--server", url, "--fallback", "local")
    assert (result.code, "[no]" in result.err, "instead" in result.err) == (3, True, False)


@pytest.mark.parametrize(
    "option", [("--token", TOKEN), ("--insecure-token",), ("--fallback", "local")]
)
@pytest.mark.parametrize(
    "command", [("plan",), ("frontier",), ("least-ram", "--overhead", "5%"), ("train",)]
)
def test_options_for_a_server_that_is_not_named(poet, documents, command, option):
    result = poet(command[0], "graph.json", *command[1:], *BOARD, *option, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "server_missing")


def test_a_token_stays_on_this_machine_or_is_encrypted(poet, documents):
    result = poet(
        "plan", "graph.json", *BOARD, "--server", "http://192.0.2.1", "--token", TOKEN, "--json"
    )
    assert (result.code, result.json["error"]["code"]) == (2, "token_insecure")
    assert TOKEN not in result.out


def test_ctrl_c_stops_the_server_and_keeps_the_best_plan(poet, documents, graph):
    with interrupting(incumbent) as (service, url):
        result = poet("plan", "graph.json", *BOARD, "--server", url, "-o", "best.json")
        assert service.job.state == "stopped"
    assert result.code == 130
    assert "the best plan so far is kept" in result.err
    assert "fits: peak" in result.out
    assert verify(graph, read_plan((documents / "best.json").read_bytes())).peak_bytes <= 32768


def test_ctrl_c_before_there_is_a_plan(poet, documents):
    with interrupting(lambda job: None) as (service, url):
        result = poet("plan", "graph.json", *BOARD, "--server", url, "-o", "best.json")
        assert service.job.state == "stopped"
    assert (result.code, "There was no plan yet." in result.err) == (130, True)
    assert not (documents / "best.json").exists()


def test_a_second_ctrl_c_leaves(poet, documents):
    with interrupting(incumbent, times=2) as (service, url):
        result = poet("plan", "graph.json", *BOARD, "--server", url, "-o", "best.json")
    assert result.code == 130
    assert f"poet jobs cancel {service.job.job_id}" in result.err
    assert not (documents / "best.json").exists()


def request_of(graph):
    return PlanRequest(graph=graph, device="mkr1000", ram_bytes=32768)


def choice(url, fallback=False):
    return ServerChoice(url=url, token=None, allow_insecure=False, fallback=fallback)


def test_a_planner_for_a_thread_stops_when_it_is_told(graph):
    """What `poet train --isolated --server` plans with."""
    cancel = threading.Event()
    with fake_service(incumbent) as (service, url):
        threading.Timer(0.3, cancel.set).start()
        plan = ServerPlanner(choice(url)).until(cancel).plan(request_of(graph))
        assert service.job.state == "stopped"
    assert plan.claims.peak_bytes <= 32768


def test_a_planner_for_a_thread_that_found_nothing(graph):
    cancel = threading.Event()
    with fake_service(lambda job: None) as (_, url):
        threading.Timer(0.2, cancel.set).start()
        with pytest.raises(ServiceError) as caught:
            ServerPlanner(choice(url)).until(cancel).plan(request_of(graph))
    assert caught.value.code == "job_stopped"


def test_a_planner_for_a_thread_falls_back(graph, nobody, at_once, capsys):
    plan = ServerPlanner(choice(nobody, fallback=True)).plan(request_of(graph))
    assert verify(graph, plan).peak_bytes <= 32768
    assert "Planning here instead" in capsys.readouterr().err
