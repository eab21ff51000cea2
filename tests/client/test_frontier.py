"""Frontiers through both clients: partial results, every plan judged for its own budget."""

import dataclasses

import pytest

from poet_client import JobState
from poet_core.errors import BudgetError, PlanError, PlanningError, ServiceError, UsageError
from poet_core.plan_document import plan_to_document
from poet_core.verify import verify
from tests.client.conftest import request_for
from tests.client.fake_service import fake_service, keep_everything_plan

FITS = (32768, 32767, 32766)


def test_plans_from_the_real_service(service, client_of, graph):
    heard = []
    points = client_of(service).frontier(request_for(graph), FITS, on_point=heard.append)
    assert [point.ram_bytes for point in points] == list(FITS)
    assert sorted(point.ram_bytes for point in heard) == sorted(FITS)
    for point in points:
        assert point.plan.budget.ram_bytes == point.ram_bytes
        assert verify(graph, point.plan).peak_bytes <= point.ram_bytes


def test_a_budget_that_cannot_be_met_is_not_asked(client_of, graph):
    with fake_service() as (service, url):
        points = client_of(url).frontier(request_for(graph), [100, 200])
        with pytest.raises(BudgetError):
            client_of(url).submit_frontier(request_for(graph), [100, 200])
    assert [type(point.error) for point in points] == [BudgetError, BudgetError]
    assert service.seen == []


@pytest.mark.parametrize("budgets", [[], [0], [-1], list(range(1, 1002))])
def test_budgets_that_are_none(client_of, graph, budgets):
    with pytest.raises(UsageError) as caught:
        client_of("http://127.0.0.1:1").frontier(request_for(graph), budgets)
    assert caught.value.code == "points_invalid"


def point_of(job, ram_bytes, state="finished", plan_for=None, **more):
    request = dataclasses.replace(job.request, ram_bytes=plan_for or ram_bytes)
    plan = plan_to_document(keep_everything_plan(request)) if state == "finished" else None
    return {"ram_bytes": ram_bytes, "state": state, "error": None, "plan": plan} | more


def ended(*points):
    """on_job for a frontier whose points are these."""

    def end(job):
        job.points = [point(job) for point in points]
        job.end("finished")

    return end


def test_points_without_a_plan(client_of, graph):
    error = {"code": "not_found_in_time", "detail": "None.", "hint": "", "kind": "planning"}
    on_job = ended(
        lambda job: point_of(job, 32768),
        lambda job: point_of(job, 32767, "failed", error=error),
        lambda job: point_of(job, 32766, "stopped"),
    )
    with fake_service(on_job) as (_, url):
        found = client_of(url).frontier(request_for(graph), FITS)
    assert [type(point.error) for point in found] == [type(None), PlanningError, ServiceError]
    assert [getattr(point.error, "code", None) for point in found] == [
        None, "not_found_in_time", "job_stopped",
    ]  # fmt: skip


def test_a_point_that_the_server_forgot(client_of, graph):
    with fake_service(ended(lambda job: point_of(job, 32768))) as (_, url):
        found = client_of(url).frontier(request_for(graph), FITS)
    assert [point.plan is not None for point in found] == [True, False, False]
    assert {point.error.code for point in found[1:]} == {"server_answer_invalid"}


def test_a_plan_for_another_budget_is_found_out(client_of, graph):
    on_job = ended(lambda job: point_of(job, 32767, plan_for=32768))
    with fake_service(on_job) as (_, url), pytest.raises(PlanError) as caught:
        client_of(url).frontier(request_for(graph), [32767])
    assert caught.value.code == "plan_for_other_problem"


@pytest.mark.parametrize("points", [
    None, {}, [5], [{"state": "finished"}], [{"ram_bytes": 0, "state": "finished"}],
    [{"ram_bytes": 32768, "state": "happy"}], [{"ram_bytes": 32768, "state": "queued"}] * 2000,
])  # fmt: skip
def test_points_that_are_none(client_of, graph, points):
    def end(job):
        job.end("finished")
        job.points = points
        job.document = lambda: {"id": job.job_id, "state": "finished", "points": points}

    with fake_service(end) as (_, url), pytest.raises(ServiceError) as caught:
        client_of(url).frontier(request_for(graph), FITS)
    assert caught.value.code in {"server_answer_invalid", "server_answer_too_large"}


def test_a_job_that_is_stopped_gives_what_there_is(client_of, graph):
    def begin(job):
        job.points = [point_of(job, 32768), point_of(job, 32767, "running")]
        job.say("state", state="running")

    with fake_service(begin) as (service, url):
        job = client_of(url).submit_frontier(request_for(graph), FITS[:2])
        view = job.view()
        assert [point.state for point in view.points] == [JobState.FINISHED, JobState.RUNNING]
        job.stop()
        found = job.wait()
        assert [point.plan is not None for point in found] == [True, False]
        job.discard()
        assert service.job.discarded


def test_a_frontier_of_another_day_can_be_looked_at(service, client_of, graph):
    client = client_of(service)
    job_id = client.submit_frontier(request_for(graph), [32760]).job_id
    blind = client.frontier_job(job_id)
    assert [point.ram_bytes for point in blind.view(wait_seconds=5).points] == [32760]
    assert list(blind.events())[-1].kind == "done"
    with pytest.raises(UsageError) as caught:
        blind.wait()
    assert caught.value.code == "request_unknown"


def test_whoever_breaks_off_leaves_no_job_behind(client_of, graph):
    def interrupted(_):
        raise KeyboardInterrupt

    on_job = ended(lambda job: point_of(job, 32768))
    with fake_service(on_job) as (service, url), pytest.raises(KeyboardInterrupt):
        client_of(url).frontier(request_for(graph), FITS, on_point=interrupted)
    assert service.job.discarded
