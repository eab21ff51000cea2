"""Asking a service for a check: its plan is judged here, and it is stopped once that will do."""

import threading
from dataclasses import replace

import pytest

from poet_cli.check.advice import advised
from poet_cli.check.asking import Enough, Planner
from poet_cli.check.decide_child import decided
from poet_cli.check.deciding import decide
from poet_cli.check.report import Verdict
from poet_cli.server_options import ServerChoice
from poet_core.plan_document import plan_to_document
from tests.check.test_deciding import FLOOR, GRAPH, KEEP, SHA256, case, entry
from tests.client.fake_service import fake_service

BUDGET = FLOOR + (KEEP - FLOOR) // 2


@pytest.fixture(scope="module")
def plan():
    """A plan that pages."""
    here = Planner(graph_sha256=SHA256, cancel=threading.Event())
    return here.plan(case(ram_bytes=BUDGET).request, Enough(None, more_seconds=0.0))


def at(url):
    return ServerChoice(url=url, token=None, allow_insecure=False, fallback=False)


def test_a_service_is_stopped_once_its_plan_will_do(plan):
    def life(job):  # a better plan is looked for for ever
        job.plan = plan_to_document(replace(plan, budget=job.request.problem().budget))
        job.say("state", state="running")
        job.say("incumbent", cost=plan.claims.energy_joules, bound=0.0, gap=1.0, elapsed_seconds=1.0,
                by="a test")  # fmt: skip

    with fake_service(life) as (service, url):
        row = decided(entry(ram_bytes=BUDGET), GRAPH, SHA256, threading.Event(), at(url))
    assert row.verdict is Verdict.FITS, (row.code, row.reason)
    assert row.peak_bytes == plan.claims.peak_bytes
    assert service.paths("DELETE")


def test_a_services_plan_is_judged_here(plan):
    def life(job):
        document = plan_to_document(replace(plan, budget=job.request.problem().budget))
        document["claims"]["peak_bytes"] -= 8
        job.end(plan=document)

    with fake_service(life) as (_, url):
        row = decided(entry(ram_bytes=BUDGET), GRAPH, SHA256, threading.Event(), at(url))
    assert (row.verdict, row.code) == (Verdict.UNDECIDED, "claim_mismatch")
    assert row.peak_bytes is None


def test_without_its_answer_nothing_is_said_against_the_model(nobody):
    one = case(ram_bytes=BUDGET)
    planner = Planner(graph_sha256=SHA256, cancel=threading.Event(), server=at(nobody))
    row, found = decide(one, planner)
    assert (row.verdict, row.code) == (Verdict.UNDECIDED, "server_unreachable")
    assert advised(one, row, found, planner) == row


def test_what_is_known_without_a_planner_is_asked_of_nobody(nobody):
    for ram_bytes, verdict in ((KEEP, Verdict.FITS), (FLOOR - 1, Verdict.DOES_NOT_FIT)):
        row = decided(entry(ram_bytes=ram_bytes), GRAPH, SHA256, threading.Event(), at(nobody))
        assert row.verdict is verdict


@pytest.fixture
def nobody(monkeypatch):
    """An address that refuses connections; the client does not pause between tries."""
    import socket

    monkeypatch.setattr("poet_client.transport.time.sleep", lambda _: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
