"""Streams of events: in order, resumable, ended by `done`, bounded in readers and in patience."""

import asyncio
import json
import threading

import pytest

from poet_core.errors import ServiceError
from poet_service.app import create_app
from poet_service.jobs.followed import read_cursor, write_cursor
from poet_service.settings import Settings
from tests.service.asgi import call
from tests.service.conftest import check_problem, sse_events


@pytest.fixture
def solved(make_client, held, request_body):
    """A client and the address of a job whose solve went all the way."""
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    held.store.progress(held.submitted[0], 1, "Looking.", 1.5)
    held.end(held.submitted[0])
    return client, path


def test_all_events_in_order(solved):
    client, path = solved
    response = client.get(f"{path}/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    events = sse_events(response.text)
    assert [(event_id, kind) for event_id, kind, _ in events] == [
        ("1", "state"), ("2", "state"), ("3", "incumbent"), ("4", "progress"), ("5", "done"),
    ]  # fmt: skip
    assert [data["seq"] for _, _, data in events] == [1, 2, 3, 4, 5]
    assert (events[2][2]["gap"], events[2][2]["elapsed_seconds"]) == (0.5, 1.0)
    assert events[3][2]["message"] == "Looking."
    assert events[4][2]["state"] == "finished"


@pytest.mark.parametrize("how", ["header", "query"])
def test_a_stream_goes_on_where_it_was(solved, how):
    client, path = solved
    sent = {"headers": {"Last-Event-ID": "3"}} if how == "header" else {"params": {"after": "3"}}
    events = sse_events(client.get(f"{path}/events", **sent).text)
    assert [event_id for event_id, _, _ in events] == ["4", "5"]
    done = client.get(f"{path}/events", headers={"Last-Event-ID": "5"})
    assert sse_events(done.text) == []


@pytest.mark.parametrize("cursor", ["x", "-1", "1-2", "1" * 16, "²", "1.0"])
def test_a_place_to_resume_that_is_none(solved, cursor):
    client, path = solved
    response = client.get(f"{path}/events", params={"after": cursor})
    check_problem(response, 422, "parameter_invalid")


@pytest.mark.parametrize("seqs", [[0], [17], [0, 0], [1, 35, 36, 10**9]])
def test_a_cursor_reads_back(seqs):
    assert read_cursor(write_cursor(seqs), len(seqs)) == seqs


def test_events_come_as_they_happen(make_client, held, request_body):
    client = make_client(held, poll_seconds=10)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    texts = []
    reader = threading.Thread(target=lambda: texts.append(client.get(f"{path}/events").text))
    reader.start()
    held.begin(held.submitted[0])
    held.better(held.submitted[0])
    held.end(held.submitted[0])
    reader.join(8)
    assert not reader.is_alive()
    assert [kind for _, kind, _ in sse_events(texts[0])] == [
        "state", "state", "incumbent", "done",
    ]  # fmt: skip


def test_a_requeued_solve_goes_on_counting(make_client, held, request_body):
    client = make_client(held)
    path = client.post("/v1/plans", json=request_body).headers["location"]
    held.begin(held.submitted[0])
    held.store.lost(held.submitted[0], 1)
    held.begin(held.submitted[0])
    held.end(held.submitted[0])
    events = sse_events(client.get(f"{path}/events").text)
    assert [event_id for event_id, _, _ in events] == ["1", "2", "3", "4", "5"]
    assert [data.get("attempt") for _, _, data in events][-1] == 2


def test_the_stream_of_a_stopped_job_ends_while_others_go_on(make_client, held, request_body):
    client = make_client(held)
    path, _ = (client.post("/v1/plans", json=request_body).headers["location"] for _ in range(2))
    held.begin(held.submitted[0])
    texts = []
    reader = threading.Thread(target=lambda: texts.append(client.get(f"{path}/events").text))
    reader.start()
    client.delete(path)
    reader.join(8)
    assert not reader.is_alive()
    _, kind, data = sse_events(texts[0])[-1]
    assert (kind, data) == ("done", {"state": "stopped"})
    assert str(held.store.solve(held.submitted[0]).state) == "running"


# -- without a client: what is sent when ---------------------------------------------------------


@pytest.fixture
def app(store, held, tmp_path):
    return create_app(
        Settings(
            state_dir=tmp_path,
            stream_heartbeat_seconds=0.05,
            stream_send_seconds=0.1,
            streams=3,
            streams_per_token=2,
        ),
        store=store,
        executor=held,
    )


async def posted(app, request_body):
    _, headers, _ = await call(app, "POST", "/v1/plans", body=json.dumps(request_body).encode())
    return headers[b"location"].decode()


def run(work):
    async def bounded():
        async with asyncio.timeout(10):
            return await work()

    return asyncio.run(bounded())


def test_a_silent_stream_says_that_it_lives(app, request_body):
    async def listen():
        path, gone, beats = await posted(app, request_body), asyncio.Event(), 0

        async def count(message):
            nonlocal beats
            beats += message.get("body", b"").startswith(b":")
            if beats == 3:
                gone.set()

        await call(app, "GET", f"{path}/events", gone=gone, send=count)
        return beats

    assert run(listen) == 3


def test_a_reader_that_takes_nothing_is_dropped(app, request_body):
    async def stall():
        path, sent = await posted(app, request_body), []

        async def stuck(message):
            sent.append(message)
            if len(sent) == 3:
                await asyncio.Event().wait()

        await call(app, "GET", f"{path}/events", send=stuck)
        return sent

    sent = run(stall)
    # Never ended, as the server sees, which closes the connection.
    assert all(message.get("more_body", True) for message in sent)


def test_streams_are_bounded_and_places_come_back(app, request_body):
    async def crowd():
        path, gone = await posted(app, request_body), asyncio.Event()
        started = [asyncio.Event(), asyncio.Event()]

        def starts(event):
            async def heard(message):
                event.set()

            return heard

        streams = [
            asyncio.ensure_future(call(app, "GET", f"{path}/events", gone=gone, send=starts(event)))
            for event in started
        ]
        for event in started:
            await event.wait()
        refused = await call(app, "GET", f"{path}/events")
        gone.set()
        await asyncio.gather(*streams)
        again = asyncio.Event()
        again.set()
        return refused, await call(app, "GET", f"{path}/events", gone=again)

    (status, headers, body), (after, _, _) = run(crowd)
    assert (status, json.loads(body)["code"]) == (429, "too_many_streams")
    assert headers[b"retry-after"]
    assert after == 200


def test_a_service_that_ends_ends_its_streams(app, request_body):
    async def leave():
        path, heard = await posted(app, request_body), asyncio.Event()

        async def hear(message):
            heard.set()

        stream = asyncio.ensure_future(call(app, "GET", f"{path}/events", send=hear))
        await heard.wait()
        app.leave()
        return await stream

    status, _, body = run(leave)
    assert status == 200
    assert b"done" not in body


def test_a_stream_breaks_off_where_the_database_is_away(app, store, request_body, monkeypatch):
    def away(*given):
        raise ServiceError("Away.", code="database_unavailable")

    async def break_off():
        path, sent = await posted(app, request_body), []

        async def hear(message):
            sent.append(message)
            monkeypatch.setattr(store, "solves", away)

        await call(app, "GET", f"{path}/events", send=hear)
        return sent

    sent = run(break_off)
    assert sent[0]["status"] == 200
    assert all(message["more_body"] for message in sent[1:])


def test_an_erased_job_ends_its_stream(app, held, store, request_body):
    async def erase():
        path, heard = await posted(app, request_body), asyncio.Event()

        async def hear(message):
            heard.set()

        stream = asyncio.ensure_future(call(app, "GET", f"{path}/events", send=hear))
        await heard.wait()
        status, _, _ = await call(app, "DELETE", path, query=b"discard=true")
        assert status == 204
        return await stream

    status, _, _ = run(erase)
    assert status == 200
