"""Jobs at the real service, through both clients: asked, watched, stopped, erased, listed."""

import dataclasses
import threading
import time

import pytest

from poet_client import JobState
from poet_core.documents import parse_json
from poet_core.errors import BudgetError, PlanError, PlanningError, ServiceError, UsageError
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import request_from_document
from poet_core.verify import verify
from poet_service.problems import error_document
from tests.client.conftest import HASTY, hasty, request_for
from tests.client.fake_service import fake_service, finish


def solve_of(executor):
    """The only solve that the service was given."""
    (solve_id,) = executor.submitted
    return solve_id


def jobs_at(url):
    return [view.job_id for view in hasty(url).jobs().jobs]


def later(*steps):
    """Does one step after the other from a thread, a moment from now."""

    def work():
        for step in steps:
            time.sleep(0.15)
            step()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_job_from_its_first_day_to_its_plan(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    assert job.view().state is JobState.QUEUED
    solve = solve_of(executor)
    executor.begin(solve)
    assert job.view().state is JobState.RUNNING
    with pytest.raises(ServiceError) as caught:
        job.plan_document()
    assert caught.value.code == "no_plan_yet"
    executor.better(solve)
    view = job.view()
    assert (view.state, view.gap) == (JobState.RUNNING, 0.5)
    assert verify(request_new.graph, job.judge(view)).peak_bytes <= 32768
    assert job.view(wait_seconds=0.05).state is JobState.RUNNING
    thread = later(lambda: executor.end(solve))
    plan = job.wait()
    thread.join()
    assert plan == job.judge(job.view()) == plan_from_document(job.plan_document())
    assert (job.view().state, job.view().error) == (JobState.FINISHED, None)


def test_progress_while_waiting(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    solve = solve_of(executor)
    told = []
    thread = later(
        lambda: executor.begin(solve), lambda: executor.better(solve), lambda: executor.end(solve)
    )
    plan = job.wait(on_progress=told.append)
    thread.join()
    assert told[0].state is JobState.QUEUED
    assert told[-1].state is JobState.FINISHED
    better = next(now for now in told if now.cost is not None)
    assert (better.cost, better.bound, better.gap) == (
        plan.objective_value, plan.objective_value / 2, 0.5,
    )  # fmt: skip
    assert better.state is JobState.RUNNING


def test_events_and_resuming_after_one(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    solve = solve_of(executor)
    executor.begin(solve)
    executor.better(solve)
    executor.end(solve)
    events = list(job.events())
    assert events[-1].kind == "done"
    assert [int(event.event_id) for event in events] == list(range(1, len(events) + 1))
    assert "incumbent" in {event.kind for event in events}
    again = list(job.events(after=events[1].event_id))
    assert again == events[2:]


def test_what_was_asked_arrives(held, client_of, request_new):
    url, executor = held
    request = dataclasses.replace(
        request_new, backend="highs", wall_seconds=5.0, patience_seconds=2.0
    )
    client_of(url).submit(request)
    arrived = request_from_document(parse_json(executor.store.request(solve_of(executor))))
    assert (arrived.backend, arrived.wall_seconds, arrived.patience_seconds) == ("highs", 5.0, 2.0)
    assert arrived.problem().budget.flash_write_bytes is not None


def test_stopping_keeps_the_best_plan(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    solve = solve_of(executor)
    executor.begin(solve)
    executor.better(solve)
    view = job.stop()
    assert view.state is JobState.STOPPED
    assert job.judge(view) == job.wait()
    assert executor.stopped == [solve]
    assert list(job.events())[-1].kind == "done"


def test_stopping_before_there_is_a_plan(held, client_of, request_new):
    job = client_of(held[0]).submit(request_new)
    assert job.judge(job.stop()) is None
    with pytest.raises(ServiceError) as caught:
        job.wait()
    assert caught.value.code == "job_stopped"


def test_erasing(held, client_of, request_new):
    job = client_of(held[0]).submit(request_new)
    job.discard()
    job.discard()  # gone is gone
    for look in (job.view, job.wait, job.stop, job.log, lambda: list(job.events())):
        with pytest.raises(ServiceError) as caught:
            look()
        assert caught.value.details["status"] == 404


@pytest.mark.parametrize("error", [
    PlanningError("Not found.", code="not_found_in_time", hint="More time."),
    BudgetError("Never.", code="budget_infeasible", hint="More RAM."),
])  # fmt: skip
def test_a_job_that_fails_raises_what_planning_here_would(held, client_of, request_new, error):
    url, executor = held
    job = client_of(url).submit(request_new)
    executor.begin(solve_of(executor))
    executor.fail(solve_of(executor), error_document(error))
    with pytest.raises(type(error)) as caught:
        job.wait()
    assert (caught.value.code, caught.value.hint) == (error.code, error.hint)
    assert job.view().error.code == error.code


def test_the_log(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    solve = solve_of(executor)
    attempt = executor.begin(solve).attempt
    executor.store.log(solve, attempt, "first line\n")
    part = job.log()
    assert (part.text, part.done) == ("first line\n", False)
    executor.store.log(solve, attempt, "second line\n")
    executor.end(solve)
    rest = job.log(part.next_offset)
    assert (rest.text, rest.done) == ("second line\n", True)


def test_the_list_of_jobs_in_pages(held, client_of, request_new):
    client = client_of(held[0])
    ids = [client.submit(request_new).job_id for _ in range(3)]
    first = client.jobs(limit=2)
    second = client.jobs(limit=1, before=first.following)
    assert {view.job_id for view in (*first.jobs, *second.jobs)} == set(ids)
    assert (len(first.jobs), len(second.jobs)) == (2, 1)
    assert {view.state for view in first.jobs} == {JobState.QUEUED}
    for arguments in ({"limit": 0}, {"limit": 101}, {"before": "x y"}, {"before": ""}):
        with pytest.raises(UsageError):
            client.jobs(**arguments)


def test_a_job_of_another_day(held, client_of, request_new):
    """A handle from an id alone looks and stops; with the request it judges as well."""
    url, executor = held
    job_id = client_of(url).submit(request_new).job_id
    executor.begin(solve_of(executor))
    executor.end(solve_of(executor))
    blind = client_of(url).job(job_id)
    assert blind.view().state is JobState.FINISHED
    assert blind.request is None
    with pytest.raises(UsageError) as caught:
        blind.wait()
    assert caught.value.code == "request_unknown"
    assert (
        verify(request_new.graph, client_of(url).job(job_id, request_new).wait()).peak_bytes
        <= 32768
    )
    other = dataclasses.replace(request_new, ram_bytes=request_new.ram_bytes - 500)
    with pytest.raises(PlanError) as caught:
        client_of(url).job(job_id, other).wait()
    assert caught.value.code == "plan_for_other_problem"


@pytest.mark.parametrize(
    "job_id", ["", "x", "../../etc/passwd", "1" * 31, "1" * 33, "A" * 32, "1" * 32 + "\n"]
)
def test_an_id_that_is_none_asks_no_server(job_id, client_of):
    with pytest.raises(UsageError) as caught:
        client_of("http://127.0.0.1:1").job(job_id)
    assert caught.value.code == "job_id_invalid"


def test_waiting_ends_in_time_and_leaves_the_job_alone(held, client_of, request_new):
    url, executor = held
    job = client_of(url).submit(request_new)
    for on_progress in (None, lambda _: None):
        with pytest.raises(ServiceError) as caught:
            job.wait(timeout=0.3, on_progress=on_progress)
        assert caught.value.code == "server_timeout"
    assert (job.view().state, executor.stopped) == (JobState.QUEUED, [])


def test_a_plan_that_comes_too_late_leaves_no_job_behind(held, client_of, request_new):
    url, executor = held
    before = jobs_at(url)
    with pytest.raises(ServiceError) as caught:
        client_of(url, timeout=1.0).answer(request_new)
    assert caught.value.code == "server_timeout"
    assert (jobs_at(url), len(executor.submitted)) == (before, 1)


def test_whoever_breaks_off_leaves_no_job_behind(held, client_of, request_new):
    url, executor = held
    before = jobs_at(url)

    def broken_off(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client_of(url).answer(request_new, on_progress=broken_off)
    assert (jobs_at(url), len(executor.submitted)) == (before, 1)


def test_a_warm_start_is_sent(client_of, graph):
    with fake_service() as (service, url):
        client = client_of(url)
        plan = client.plan(graph, device="mkr1000", ram_bytes=32768)
        client.submit(request_for(graph, ram_bytes=32767), warm_start=plan)
    assert [job.warm_start is not None for job in service.jobs.values()] == [False, True]


def test_every_call_has_a_key_of_its_own(client_of, graph):
    with fake_service() as (service, url):
        for _ in range(2):
            client_of(url).plan(graph, device="mkr1000", ram_bytes=32768)
    keys = [headers["Idempotency-Key"] for way, _, headers, _ in service.seen if way == "POST"]
    assert len(set(keys)) == 2
    assert all(len(key) == 32 for key in keys)


def test_connections_are_kept_inside_a_block(graph):
    """And the client may be used from several threads: one stops what another waits for."""
    from poet_client import PlannerClient

    def start(job):
        job.say("state", state="running")

    with fake_service(start) as (_, url), PlannerClient(url, retry=HASTY) as client:
        job = client.submit(request_for(graph))
        thread = later(job.stop)
        with pytest.raises(ServiceError) as caught:
            job.wait()
        thread.join()
    assert caught.value.code == "job_stopped"


def test_the_client_says_nothing_of_its_token():
    from poet_client import AsyncPlannerClient, PlannerClient

    for kind in (PlannerClient, AsyncPlannerClient):
        client = kind("http://127.0.0.1:1", token="poet_" + "s" * 43)
        assert "ssss" not in repr(client) + repr(vars(client))


def test_a_finished_answer_needs_one_request(client_of, graph):
    with fake_service(finish) as (service, url):
        client_of(url).plan(graph, device="mkr1000", ram_bytes=32768)
    assert [way for way, *_ in service.seen] == ["POST"]
