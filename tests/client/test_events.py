"""A job's events over streams that break, stall, lie, or are not there."""

import json
import time

import pytest

from poet_client import JobState
from poet_core.errors import ServiceError
from poet_core.plan_document import plan_to_document
from tests.client.conftest import request_for
from tests.client.fake_service import fake_service, keep_everything_plan, reply, served

ID = "1" * 32
LIFE = [
    ("state", {"state": "running"}),
    ("progress", {"message": "Looking", "elapsed_seconds": 0.1}),
    ("incumbent", {"cost": 3.0, "bound": 1.0, "gap": 0.5, "elapsed_seconds": 0.2, "by": "greedy"}),
    ("bound", {"bound": 2.0, "gap": 0.25, "elapsed_seconds": 0.3}),
]


def live(job):
    """A whole life before anybody looks."""
    for kind, data in LIFE:
        job.say(kind, **data)
    job.end(plan=plan_to_document(keep_everything_plan(job.request)))


def started(service, client, graph):
    """A job that its fake answered as unfinished, and that has finished since."""
    service.on_job = lambda job: None
    job = client.submit(request_for(graph))
    live(service.job)
    return job


def streams(service):
    return [headers for _, path, headers, _ in service.seen if path.endswith("/events")]


EVERYTHING = ["state", "progress", "incumbent", "bound", "state", "done"]


@pytest.mark.parametrize("limits", [[], [1], [2, 2], [1, 1, 1, 1, 1]])
def test_a_stream_that_breaks_goes_on_where_it_was(client_of, graph, limits):
    with fake_service() as (service, url):
        service.stream_limits.extend(limits)
        events = list(started(service, client_of(url), graph).events())
    assert [event.kind for event in events] == EVERYTHING
    assert [event.event_id for event in events] == ["1", "2", "3", "4", "5", "6"]
    asked = [headers.get("Last-Event-ID") for headers in streams(service)]
    heard = [str(sum(limits[: n + 1])) for n in range(len(limits))]
    assert asked == [None, *heard]
    assert not any("wait" in path for path in service.paths())


def test_a_stream_that_stays_empty_is_given_up_for_looks(client_of, graph):
    with fake_service() as (service, url):
        service.stream_limits.extend([0] * 100)
        events = list(started(service, client_of(url), graph).events())
    assert [event.kind for event in events] == ["state", "incumbent", "done"]
    assert events[-1].data == {"state": "finished"}
    assert 2 <= len(streams(service)) <= 10


NO_STREAM = {
    "too many": (429, b'{"code": "too_many_streams", "kind": "service"}', "application/json"),
    "no method": (405, b"", "text/plain"),
    "no such type": (406, b"", "text/plain"),
    "something else": (200, b"{}", "application/json"),
}


@pytest.mark.parametrize("name", NO_STREAM)
def test_where_no_stream_is_the_job_is_looked_at(client_of, graph, name):
    status, body, kind = NO_STREAM[name]

    def refuses(handler):
        reply(handler, status, body, [("Content-Type", kind)])
        return True

    with fake_service() as (service, url):
        job = started(service, client_of(url), graph)
        service.faults.append(refuses)
        told = []
        plan = job.wait(on_progress=told.append)
    assert plan.claims.peak_bytes <= 32768
    assert (told[-1].state, told[-1].cost, told[-1].bound) == (JobState.FINISHED, 3.0, 2.0)
    assert len(streams(service)) == 1


def test_progress_adds_up(client_of, graph):
    with fake_service() as (service, url):
        told = []
        started(service, client_of(url), graph).wait(on_progress=told.append)
    last = told[3]
    assert (last.state, last.cost, last.bound, last.gap) == (JobState.RUNNING, 3.0, 2.0, 0.25)
    assert (last.message, last.elapsed_seconds) == ("Looking", 0.3)


def streaming(*chunks, pause=0.0):
    """A server with one job, whose stream is these bytes; looks say that it runs for ever."""

    def handle(handler, body):
        if handler.path.endswith("/events"):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.end_headers()
            for chunk in chunks:
                handler.wfile.write(chunk)
                handler.wfile.flush()
                time.sleep(pause)
        else:
            reply(handler, 200, {"id": ID, "state": "running"})

    return served(handle)


def event(number, kind="progress", data="{}"):
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()


def test_an_event_that_comes_again_is_told_once(client_of):
    with streaming(event(1), event(1), event(2), event(3, "done")) as url:
        found = [item.event_id for item in client_of(url).job(ID).events()]
    assert found == ["1", "2", "3"]


def test_nothing_is_told_after_the_end(client_of):
    with streaming(event(1, "done"), event(2)) as url:
        assert [item.kind for item in client_of(url).job(ID).events()] == ["done"]


@pytest.mark.parametrize(
    "bad",
    [
        event(1, data="{"), event(1, data="[]"), event(1, data='"x"'), event(1, data="NaN"),
        event(1, data='{"a":' * 50 + "1" + "}" * 50), event("ä"), event("x" * 201), b"\xff\n\n",
        b"data: " + b"x" * 2**19 + b"\n\n",
    ],
)  # fmt: skip
def test_an_event_that_is_none_ends_it(client_of, bad):
    with streaming(bad) as url, pytest.raises(ServiceError) as caught:
        list(client_of(url).job(ID).events())
    assert caught.value.code in {"server_answer_invalid", "server_answer_too_large"}


def test_figures_that_are_none_are_left_out(client_of):
    data = json.dumps(
        {
            "cost": "lots",
            "bound": None,
            "gap": True,
            "message": "\x1b[2J" + "x" * 999,
            "state": "happy",
        }
    )
    told = []
    with streaming(event(1, data=data), event(2, "done", '{"state": "failed"}')) as url:
        for item in client_of(url).job(ID).events():
            from poet_client.views import JobProgress, progressed

            told.append(progressed(JobProgress(), item))
    first = told[0]
    assert (first.cost, first.bound, first.gap, first.state) == (None, None, None, JobState.RUNNING)
    assert "\x1b" not in first.message
    assert len(first.message) <= 200


def test_comments_alone_do_not_hold_a_listener_for_ever(client_of):
    with streaming(*[b": beat\n\n"] * 40, pause=0.05) as url:
        began = time.monotonic()
        with pytest.raises(ServiceError) as caught:
            list(client_of(url).job(ID).events(timeout=0.4))
    assert caught.value.code == "server_timeout"
    assert time.monotonic() - began < 3


def test_a_silent_stream_is_given_up(client_of):
    with streaming(b": hello\n\n", pause=1.5) as url, pytest.raises(ServiceError) as caught:
        list(client_of(url).job(ID).events(timeout=0.3))
    assert caught.value.code == "server_timeout"


def test_who_stops_listening_closes_the_stream(graph):
    from tests.client.conftest import hasty

    with fake_service() as (service, url):
        job = started(service, hasty(url), graph)
        for number, _ in enumerate(job.events()):
            if number == 1:
                break
    assert len(streams(service)) == 1


def test_a_server_that_restarts_meanwhile(client_of, graph):
    """Connections are refused for a while; the job is found again and waited for."""
    down = lambda handler: handler.close_connection or True  # noqa: E731  Nothing is answered.
    with fake_service() as (service, url):
        job = started(service, client_of(url), graph)
        service.faults.extend([down] * 3)
        assert job.wait(on_progress=lambda _: None).claims.peak_bytes <= 32768
        service.faults.extend([down] * 3)
        assert job.wait().claims.peak_bytes <= 32768
