"""Asking again: when, how often, and when not.

    no connection, a broken one, no answer in time      again, after a growing random pause
    502, 503, 504                                       the same
    429                                                 after Retry-After and a random pause, as often
                                                        as the deadline allows: the server lives
    anything else                                       is an answer

Only what may be asked twice is: reads, deletions, and posts with an Idempotency-Key. Invariant: no
pause begins that would end after the deadline.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from poet_client.refusals import refusal
from poet_client.wire import Deadline, Emit, Flow, Pause, Reply, Request, send
from poet_core.errors import PoetError, ServiceError

_BUSY = 429
_TRANSIENT_STATUSES = frozenset({502, 503, 504})
_TRANSIENT_CODES = frozenset({"server_unreachable", "server_timeout"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """`attempts`: most requests in a row that fail, the first one counted. A pause is random between
    0 and `base_seconds`, doubled after each failure up to `most_seconds` (full jitter: clients that
    failed together do not come back together). Only 429s are many enough to reach it: hundreds of
    clients that ask every other second keep a full service busy with saying no. A longer
    Retry-After than `most_retry_after_seconds` is cut to that. `random`: from 0 to 1."""

    attempts: int = 5
    base_seconds: float = 0.25
    most_seconds: float = 20.0
    most_retry_after_seconds: float = 60.0
    random: Callable[[], float] = random.random

    def pause_seconds(self, failures: int) -> float:
        """The pause after so many failures in a row, of at least 1."""
        doubled = self.base_seconds * 2.0 ** min(failures - 1, 30)
        return self.random() * min(self.most_seconds, doubled)


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence about what the client is doing, for people."""

    message: str


def is_unavailable(error: PoetError) -> bool:
    """Whether an error says that the service is down or overloaded, rather than no."""
    status = error.details.get("status")
    return isinstance(error, ServiceError) and (
        error.code in _TRANSIENT_CODES or status == _BUSY or status in _TRANSIENT_STATUSES
    )


def exchange(request: Request, policy: RetryPolicy, ends: Deadline) -> Flow[Reply]:
    """The answer to a request, asked again where that may help. Raises ServiceError."""
    failures, busy = 0, 0
    while True:
        least_seconds = 0.0
        try:
            timeout_seconds = min(request.answer_seconds, max(ends.left(), 0.001))
            reply = yield from send(request, timeout_seconds)
        except ServiceError as error:
            if error.code not in _TRANSIENT_CODES:
                raise
            failures += 1
            why: PoetError = error
        else:
            if not is_transient(reply):
                return reply
            why = refusal(reply)
            if reply.status == _BUSY:
                busy += 1
            else:
                failures += 1
            least_seconds = retry_after_seconds(reply.retry_after, policy)
        seconds = least_seconds + policy.pause_seconds(failures + busy)
        if not request.repeatable or failures >= policy.attempts or seconds >= ends.left():
            raise why
        yield Emit(Notice(f"{why.message} Trying again in {seconds:.1f} s."))
        yield Pause(seconds)


def is_transient(reply: Reply) -> bool:
    """Whether the service, or a proxy before it, is busy or out of order for a while. A 504 may also
    say that a planner found nothing in its time: that is an answer."""
    if reply.status in _TRANSIENT_STATUSES:
        return isinstance(refusal(reply), ServiceError)
    return reply.status == _BUSY


def retry_after_seconds(
    text: str, policy: RetryPolicy, now: Callable[[], float] = time.time
) -> float:
    """What a Retry-After header asks for: seconds, or a date; 0 where it says nothing."""
    text, most = text.strip(), policy.most_retry_after_seconds
    if text.isdecimal() and text.isascii():
        return min(most, float(text))
    try:
        at = email.utils.parsedate_to_datetime(text)
        return min(most, max(0.0, at.timestamp() - now()))
    except (ValueError, OverflowError, OSError):  # no date, or none that this machine can tell
        return 0.0
