"""A job's events: from its stream, resumed after a broken connection, or by asking again and again.

    stream            until it says "done"
    broken, silent    again after the last event, a few times without a new one
    no stream there   (refused, another server, too many streams) long polls, whose changes are told
                      as events

Invariant: an event is told once; nothing is told after "done".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poet_client.event_stream import FrameReader
from poet_client.job_flows import JobPlace, Terms, breathe, look_at, too_long
from poet_client.refusals import refusal
from poet_client.retrying import is_transient
from poet_client.views import JobEvent, JobState, read_event, read_view
from poet_client.wire import (
    Close,
    Deadline,
    Emit,
    Flow,
    Pause,
    Reply,
    Request,
    open_stream,
    read_stream,
)
from poet_core.errors import ServiceError

# The service sends a comment every 15 s: two of them may be lost.
_QUIET_SECONDS = 50.0
_ANSWER_SECONDS = 30.0
_MOST_REFUSAL_BYTES = 2**20
# While nothing better is to be had, somebody may be looking at the figures.
_POLL_SECONDS = 2.0
_FIGURES = ("cost", "bound", "gap", "elapsed_seconds")
# These answers will not change by asking in another way.
_FINAL = frozenset({401, 403, 404, 410})


@dataclass(slots=True)
class _Listening:
    """How far a listener is: the last event's id, whether there is no stream, whether it heard more."""

    last_id: str
    no_stream: bool = False
    heard: bool = False


def events(place: JobPlace, terms: Terms, ends: Deadline, after: str = "") -> Flow[None]:
    """Emits every JobEvent after the one with the id `after` until the job has ended. Raises
    ServiceError (`server_timeout`, ...), or what the server refuses."""
    now, barren = _Listening(after), 0
    while True:
        now.heard = False
        try:
            if (yield from _listen(place, now, ends)):
                return
        except ServiceError as error:
            if error.code not in {"server_unreachable", "server_timeout"}:
                raise
        if ends.left() <= 0:
            raise too_long(JobState.RUNNING, ends)
        barren = 0 if now.heard else barren + 1
        if now.no_stream or barren >= terms.retry.attempts:
            yield from _poll(place, terms, ends)
            return
        yield Pause(min(terms.retry.pause_seconds(barren + 1), ends.left()))


def _listen(place: JobPlace, now: _Listening, ends: Deadline) -> Flow[bool]:
    """One connection's events; whether the last was "done"."""
    headers = {"Accept": "text/event-stream"}
    if now.last_id:
        headers["Last-Event-ID"] = now.last_id
    request = Request(
        method="GET", path=f"{place.path}/events", headers=headers,
        most_bytes=_MOST_REFUSAL_BYTES,
    )  # fmt: skip
    left = max(ends.left(), 0.001)
    reply = yield from open_stream(request, min(_ANSWER_SECONDS, left), min(_QUIET_SECONDS, left))
    if reply is not None:
        now.no_stream = _has_no_stream(reply)
        return False
    frames = FrameReader(now.last_id)
    while ends.left() > 0:
        data = yield from read_stream()
        if not data:
            break
        for frame in frames.feed(data):
            event = read_event(frame)
            if event.event_id and event.event_id == now.last_id:
                continue  # the server began with the one that we have
            now.last_id, now.heard = event.event_id, True
            yield Emit(event)
            if event.kind == "done":
                yield Close()
                return True
    yield Close()
    return False


def _has_no_stream(reply: Reply) -> bool:
    """Whether to ask in another way rather than again. Raises what is final."""
    if reply.status in _FINAL:
        raise refusal(reply)
    return reply.status == 429 or not is_transient(reply)


def _poll(place: JobPlace, terms: Terms, ends: Deadline) -> Flow[None]:
    """Changes of the view, as events."""
    before: dict[str, Any] = {}
    while True:
        began = ends.left()
        document = yield from look_at(place, terms, ends, _POLL_SECONDS)
        view = read_view(document, place.limits)
        now = {"state": str(view.state)} | {name: getattr(view, name) for name in _FIGURES}
        for event in _changes(before, now):
            yield Emit(event)
        if view.state.ended:
            yield Emit(JobEvent(event_id="", kind="done", data={"state": str(view.state)}))
            return
        before = now
        if ends.left() <= 0:
            raise too_long(view.state, ends)
        yield from breathe(began - ends.left(), terms, ends)


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[JobEvent]:
    found = []
    if before.get("state") != now["state"]:
        found.append(JobEvent(event_id="", kind="state", data={"state": now["state"]}))
    data = {name: now[name] for name in _FIGURES if now[name] is not None}
    if now["cost"] is not None and before.get("cost") != now["cost"]:
        found.append(JobEvent(event_id="", kind="incumbent", data=data))
    elif now["bound"] is not None and before.get("bound") != now["bound"]:
        found.append(JobEvent(event_id="", kind="bound", data=data))
    return found
