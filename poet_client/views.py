"""What a service says of a job: its state, its figures, its events.

All of it is the server's word. It is bounded and typed here, and believed nowhere: a plan counts
when it was judged (`judging`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poet_client.event_stream import Frame
from poet_client.refusals import error_of
from poet_core.documents import Limits, Node, parse_json, refuse
from poet_core.errors import DocumentError, PoetError, ServiceError, UsageError
from poet_core.text import printable

_JOB_ID = re.compile(r"[0-9a-f]{32}")
_EVENT_ID = re.compile(r"[!-~]{0,200}")
_EVENT_LIMITS = Limits(document_bytes=2**18, depth=6, values=10_000)
# Figures that a server may state; nothing is computed from them.
_ANY = {"least": -1e300}


class JobState(StrEnum):
    """Where a job is. `sentence` says it to people."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def sentence(self) -> str:
        """The state in a sentence."""
        return _SENTENCES[self]

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self in {JobState.FINISHED, JobState.FAILED, JobState.STOPPED}


_SENTENCES = {
    JobState.QUEUED: "The job waits for its turn.",
    JobState.RUNNING: "Plans are being looked for.",
    JobState.FINISHED: "There is a plan, and nothing better is looked for.",
    JobState.FAILED: "There is no plan; the error says why.",
    JobState.STOPPED: "The job was stopped; the best plan until then, where there was one, is kept.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as the server describes it. `plan_document`: its best plan so far, not judged yet;
    times are seconds since 1970; `cost` and `bound` are joules or seconds, by the objective."""

    job_id: str
    state: JobState
    kind: str = "plan"
    attempt: int | None = None
    created_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    cost: float | None = None
    bound: float | None = None
    gap: float | None = None
    elapsed_seconds: float | None = None
    plan_document: Any = field(default=None, repr=False)
    error: PoetError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """Something that happened to a job: `kind` is state, incumbent, bound, progress or done.

    `event_id`: what to resume after; empty where the server was asked again and again instead.
    """

    event_id: str
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """What is known while a job is waited for. `message`: the newest sentence."""

    state: JobState = JobState.QUEUED
    cost: float | None = None
    bound: float | None = None
    gap: float | None = None
    elapsed_seconds: float | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A piece of a job's log. `done`: no more will come after it."""

    text: str
    next_offset: int
    done: bool


def check_job_id(job_id: str) -> str:
    """The id. Raises UsageError (`job_id_invalid`)."""
    if not _JOB_ID.fullmatch(job_id):
        raise UsageError(
            f"Expected a job's id of 32 hexadecimal digits, got {printable(job_id, 60)!r}.",
            code="job_id_invalid",
            hint="`poet jobs list` shows the ids.",
        )
    return job_id


def read_object(body: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object of an answer. Raises ServiceError (`server_answer_invalid`)."""
    try:
        document = parse_json(body, limits)
        if not isinstance(document, dict):
            refuse("$", "an object", "something else", code="wrong_type")
    except DocumentError as error:
        raise invalid(error) from error
    return document


def invalid(error: DocumentError) -> ServiceError:
    """What to raise where an answer is none."""
    return ServiceError(
        f"The server's answer is none to this question: {error.message}",
        code="server_answer_invalid",
        hint="Is this address a planning service of the same version?",
        details={"document_code": error.code},
    )


def read_view(document: dict[str, Any], limits: Limits) -> JobView:
    """The view in a JSON object; fields that are unknown here are a newer server's, and left alone.
    Raises ServiceError."""
    try:
        identity = _required(document, "id", limits).string()
        if not _JOB_ID.fullmatch(identity):
            refuse("$.id", "32 hexadecimal digits", "something else", code="wrong_value")
        state = _required(document, "state", limits).choice(frozenset(JobState))
        numbers = ("created_at", "started_at", "finished_at", "cost", "bound", "gap")
        found = {name: _number(document, name) for name in (*numbers, "elapsed_seconds")}
        attempt = document.get("attempt")
        kind = document.get("kind")
        return JobView(
            job_id=identity,
            state=JobState(state),
            kind="plan" if kind is None else Node(kind, "$.kind", limits).string()[:40],
            attempt=None if attempt is None else Node(attempt, "$.attempt").integer(),
            plan_document=document.get("plan"),
            error=_error(document.get("error"), JobState(state)),
            **found,
        )
    except DocumentError as error:
        raise invalid(error) from error


def _error(document: Any, state: JobState) -> PoetError | None:
    return error_of(document) if document is not None or state is JobState.FAILED else None


def _required(document: dict[str, Any], name: str, limits: Limits) -> Node:
    if name not in document:
        refuse(f"$.{name}", "a value", "nothing: the field is missing", code="missing_field")
    return Node(document[name], f"$.{name}", limits)


def _number(document: Mapping[str, Any], name: str) -> float | None:
    value = document.get(name)
    return None if value is None else Node(value, f"$.{name}").number(**_ANY)


def read_event(frame: Frame) -> JobEvent:
    """The event in a frame. Raises ServiceError (`server_answer_invalid`)."""
    if not _EVENT_ID.fullmatch(frame.last_id):
        raise ServiceError(
            "The server's event has an id that cannot be sent back.",
            code="server_answer_invalid",
            hint="Is this address a planning service of the same version?",
        )
    data = read_object(frame.data.encode(), _EVENT_LIMITS)
    return JobEvent(event_id=frame.last_id, kind=printable(frame.kind, 40), data=data)


def progressed(before: JobProgress, event: JobEvent) -> JobProgress:
    """What is known after an event; figures that are none are left out."""
    data, figures = event.data, {}
    for name in ("cost", "bound", "gap", "elapsed_seconds"):
        try:
            value = _number(data, name)
        except DocumentError:
            value = None
        figures[name] = getattr(before, name) if value is None else value
    state, message = data.get("state"), data.get("message")
    return JobProgress(
        state=JobState(state) if state in set(JobState) else _state_after(before.state, event.kind),
        message=printable(message, 200) if isinstance(message, str) else before.message,
        **figures,
    )


def _state_after(state: JobState, kind: str) -> JobState:
    """Whatever is found is found by somebody who works."""
    found = kind in {"incumbent", "bound", "progress"}
    return JobState.RUNNING if state is JobState.QUEUED and found else state
