"""What is said to a server about a job: ask, look, wait, stop, erase, read its log.

Paths are made of ids that were checked, never of what a server sends as a link. Every flow ends by
its deadline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from poet_client.judging import judged_view, limits_for
from poet_client.refusals import refusal
from poet_client.retrying import RetryPolicy, exchange
from poet_client.views import (
    JobState,
    JobView,
    LogPart,
    invalid,
    read_object,
    read_view,
)
from poet_client.wire import Deadline, Flow, Pause, Reply, Request
from poet_core.documents import DEFAULT_LIMITS, Limits, Node, canonical_json
from poet_core.errors import DocumentError, PoetError, ServiceError
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest, request_to_document

PLANS, FRONTIERS = "/v1/plans", "/v1/frontiers"
POLL_SECONDS = 20.0
"""How long the server may hold an answer back, waiting for the job to end."""

# A server that answers sooner than asked, with nothing new, is not asked again at once.
_LEAST_POLL_SECONDS = 0.25
_GOODBYE_SECONDS = 2.0
_SMALL = Limits(document_bytes=2**20, depth=8, values=100_000)
_LOG = Limits(document_bytes=2**23, depth=4, values=1000, string_length=2**22)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How the flows of a client behave. `clock`: a monotonic one."""

    retry: RetryPolicy
    clock: Callable[[], float]

    def within(self, seconds: float) -> Deadline:
        """A deadline from now."""
        return Deadline(seconds, self.clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlace:
    """Where a job is on its server, and what may be said about it at most."""

    job_id: str
    root: str = PLANS
    limits: Limits = field(default=DEFAULT_LIMITS, repr=False)

    @property
    def path(self) -> str:
        """Of its view."""
        return f"{self.root}/{self.job_id}"


def place_of(job_id: str, graph: TrainingGraph | None, root: str = PLANS) -> JobPlace:
    """A job's place; `graph`: its graph, where it is known here."""
    return JobPlace(job_id=job_id, root=root, limits=limits_for(graph))


def asked(
    request: Request, terms: Terms, ends: Deadline, statuses: frozenset[int] = frozenset({200})
) -> Flow[Reply]:
    """An answer of one of these statuses. Raises what the server refuses."""
    reply = yield from exchange(request, terms.retry, ends)
    if reply.status not in statuses:
        raise refusal(reply)
    return reply


def ask_json(
    request: Request, terms: Terms, ends: Deadline, limits: Limits = _SMALL
) -> Flow[dict[str, Any]]:
    """The JSON object that a server answers."""
    reply = yield from asked(request, terms, ends)
    return read_object(reply.body, limits)


def submit(
    request: PlanRequest, key: str, terms: Terms, ends: Deadline, warm_start: Plan | None = None
) -> Flow[JobView]:
    """Ask for a plan. `key`: the Idempotency-Key, so that asking again makes no second job."""
    document = request_to_document(request)
    if warm_start is not None:
        document["warm_start"] = plan_to_document(warm_start)
    return (yield from post_job(PLANS, document, key, terms, ends, limits_for(request.graph)))


def post_job(
    root: str, document: Any, key: str, terms: Terms, ends: Deadline, limits: Limits
) -> Flow[JobView]:
    """The new job, finished already where the server knew the answer."""
    body = canonical_json(document)
    request = Request(
        method="POST", path=root, body=body, most_bytes=limits.document_bytes,
        headers={"Idempotency-Key": key},
    )  # fmt: skip
    reply = yield from asked(request, terms, ends, frozenset({200, 202}))
    return read_view(read_object(reply.body, limits), limits)


def look(place: JobPlace, terms: Terms, ends: Deadline, wait_seconds: float = 0.0) -> Flow[JobView]:
    """The job as it is now, or as it is when it ends within `wait_seconds`."""
    document = yield from look_at(place, terms, ends, wait_seconds)
    return view_of(document, place)


def look_at(
    place: JobPlace, terms: Terms, ends: Deadline, wait_seconds: float = 0.0
) -> Flow[dict[str, Any]]:
    """The same as the JSON object that it is."""
    wait = max(0.0, min(wait_seconds, ends.left()))
    request = Request(
        method="GET", path=f"{place.path}?wait={wait:.3g}" if wait else place.path,
        most_bytes=place.limits.document_bytes, answer_seconds=wait + 30.0,
    )  # fmt: skip
    return (yield from ask_json(request, terms, ends, place.limits))


def view_of(document: dict[str, Any], place: JobPlace) -> JobView:
    """The view in an answer about this job. Raises ServiceError."""
    view = read_view(document, place.limits)
    if view.job_id != place.job_id:
        raise ServiceError(
            "The server answered about another job.",
            code="server_answer_invalid",
            hint="Is this address a planning service of the same version?",
        )
    return view


def ended(place: JobPlace, terms: Terms, ends: Deadline) -> Flow[JobView]:
    """The job once it has ended. Raises ServiceError (`server_timeout`) where that takes too long."""
    while True:
        began = ends.left()
        view = yield from look(place, terms, ends, POLL_SECONDS)
        if view.state.ended:
            return view
        if ends.left() <= 0:
            raise too_long(view.state, ends)
        yield from breathe(began - ends.left(), terms, ends)


def breathe(spent_seconds: float, terms: Terms, ends: Deadline) -> Flow[None]:
    """A pause, where the last answer came too soon."""
    if spent_seconds < _LEAST_POLL_SECONDS:
        pause = _LEAST_POLL_SECONDS * (1.0 + terms.retry.random())
        yield Pause(max(0.0, min(pause, ends.left())))


def too_long(state: JobState, ends: Deadline) -> ServiceError:
    """The job did not end before the deadline."""
    return ServiceError(
        f"The job did not end within {ends.seconds:.3g} seconds. {state.sentence}",
        code="server_timeout",
        hint="Give the solver less time, or the client a longer timeout.",
    )


def stop(place: JobPlace, terms: Terms, ends: Deadline) -> Flow[JobView]:
    """Ask that nothing more be looked for; the best plan so far is kept."""
    request = Request(method="DELETE", path=place.path, most_bytes=place.limits.document_bytes)
    document = yield from ask_json(request, terms, ends, place.limits)
    return view_of(document, place)


def discard(place: JobPlace, terms: Terms, ends: Deadline) -> Flow[None]:
    """Erase the job. One that is gone already is as erased as any."""
    request = Request(
        method="DELETE", path=f"{place.path}?discard=true", most_bytes=_SMALL.document_bytes
    )
    yield from asked(request, terms, ends, frozenset({200, 204, 404}))


def say_goodbye(place: JobPlace, terms: Terms) -> Flow[None]:
    """Erase a job that nobody waits for any more, once, quickly, or not at all."""
    once = Terms(retry=RetryPolicy(attempts=1), clock=terms.clock)
    with contextlib.suppress(PoetError):
        yield from discard(place, once, terms.within(_GOODBYE_SECONDS))


def read_log(place: JobPlace, offset: int, terms: Terms, ends: Deadline) -> Flow[LogPart]:
    """The log from `offset` on, as much as the server sends at once."""
    request = Request(
        method="GET", path=f"{place.path}/log?offset={offset}", most_bytes=_LOG.document_bytes
    )
    document = yield from ask_json(request, terms, ends, _LOG)
    try:
        text = Node(document.get("text"), "$.text", _LOG).string()
        after = Node(document.get("next_offset"), "$.next_offset", _LOG).integer(least=offset)
        return LogPart(text=text, next_offset=after, done=document.get("done") is True)
    except DocumentError as error:
        raise invalid(error) from error


def plan_document(place: JobPlace, terms: Terms, ends: Deadline) -> Flow[dict[str, Any]]:
    """A job's best plan so far as the JSON object that the server sends, not judged."""
    path, most = f"{place.path}/plan", place.limits.document_bytes
    request = Request(method="GET", path=path, most_bytes=most)
    return (yield from ask_json(request, terms, ends, place.limits))


def plan_of_ended(view: JobView, request: PlanRequest) -> Plan:
    """The judged plan of a job that has ended. Raises its error where it failed, ServiceError
    (`job_stopped`) where it was stopped before there was a plan."""
    if view.state is JobState.FAILED and view.error is not None:
        raise view.error
    plan = judged_view(view, request)
    if plan is not None:
        return plan
    if view.state is JobState.STOPPED:
        raise ServiceError(
            "The job was stopped before a plan was found.",
            code="job_stopped",
            hint="Ask again.",
        )
    raise ServiceError(
        "The server's answer holds no plan.",
        code="server_answer_invalid",
        hint="Is this address a planning service of the same version?",
    )
