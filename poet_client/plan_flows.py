"""From a request to its judged plan, through one job on a server.

    submit -> events, where somebody listens -> the job once it has ended -> the judge

Invariant: a job that its caller waits for no more (an error, Ctrl-C, a cancelled task) is erased, so
that nobody works for nothing.
"""

from __future__ import annotations

from poet_client.event_flows import events
from poet_client.job_flows import (
    JobPlace,
    Terms,
    ended,
    place_of,
    plan_of_ended,
    say_goodbye,
    submit,
)
from poet_client.views import JobView
from poet_client.wire import Deadline, Flow
from poet_core.errors import PoetError
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest

# The server's own answers end the job there; these are the caller's own trouble.
_OURS = frozenset({"server_unreachable", "server_timeout"})


def planned(
    request: PlanRequest, key: str, terms: Terms, ends: Deadline, *, listening: bool
) -> Flow[Plan]:
    """The judged plan. Emits events and notices, where somebody is `listening`."""
    view = yield from submit(request, key, terms, ends)
    if not view.state.ended:
        place = place_of(view.job_id, request.graph)
        try:
            view = yield from awaited(place, terms, ends, listening=listening)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(error, PoetError) or error.code in _OURS:
                yield from say_goodbye(place, terms)
            raise
    return plan_of_ended(view, request)


def awaited(place: JobPlace, terms: Terms, ends: Deadline, *, listening: bool) -> Flow[JobView]:
    """The job once it has ended."""
    if listening:
        yield from events(place, terms, ends)
    return (yield from ended(place, terms, ends))
