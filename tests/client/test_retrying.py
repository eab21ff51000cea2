"""Asking again: when, how long after, and when not. Flows are driven by hand: no network, no clock."""

import datetime as dt
import email.utils
import json

import pytest

from poet_client.retrying import Notice, RetryPolicy, exchange, is_unavailable, retry_after_seconds
from poet_client.wire import Deadline, Emit, Pause, Reply, Request, Send
from poet_core.errors import BudgetError, PlanningError, ServiceError

GET = Request(method="GET", path="/", most_bytes=100)
ONCE = Request(method="POST", path="/", most_bytes=100, repeatable=False)
LATEST = RetryPolicy(random=lambda: 1.0)


def problem(status, code="busy", kind="service", retry_after=""):
    body = json.dumps({"code": code, "detail": "No.", "hint": "", "kind": kind}).encode()
    return Reply(status=status, body=body, retry_after=retry_after)


DOWN = ServiceError("Nobody there.", code="server_unreachable")
SLOW = ServiceError("Nothing came.", code="server_timeout")
OK = Reply(status=200, body=b"{}")


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def drive(outcomes, *, request=GET, policy=LATEST, seconds=1000.0):
    """(what came out, pauses, notices). `outcomes`: replies, or errors that are raised."""
    clock, left = Clock(), list(outcomes)
    flow = exchange(request, policy, Deadline(seconds, clock))
    pauses, notices, effect = [], [], next(flow)
    try:
        while True:
            if isinstance(effect, Send):
                assert effect.timeout_seconds <= max(0.001, seconds - clock.now)
                outcome = left.pop(0)
                if isinstance(outcome, Exception):
                    effect = flow.throw(outcome)
                else:
                    effect = flow.send(outcome)
            elif isinstance(effect, Emit):
                assert isinstance(effect.value, Notice)
                notices.append(effect.value.message)
                effect = flow.send(None)
            else:
                assert isinstance(effect, Pause)
                pauses.append(effect.seconds)
                clock.now += effect.seconds
                effect = flow.send(None)
    except StopIteration as done:
        return done.value, pauses, notices
    except ServiceError as error:
        return error, pauses, notices


@pytest.mark.parametrize(
    "trouble",
    [DOWN, SLOW, problem(502), problem(503), problem(504), Reply(status=503, body=b"<html>")],
)
def test_trouble_that_passes(trouble):
    found, pauses, notices = drive([trouble, trouble, OK])
    assert found is OK
    assert pauses == [0.25, 0.5]
    assert len(notices) == 2
    assert "Trying again in 0.5 s" in notices[1]


@pytest.mark.parametrize("trouble", [DOWN, SLOW, problem(503)])
def test_trouble_that_stays(trouble):
    found, pauses, _ = drive([trouble] * 5)
    assert is_unavailable(found)
    assert pauses == [0.25, 0.5, 1.0, 2.0]


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 403, 404, 409, 413, 422, 500, 501])
def test_what_is_an_answer_is_not_asked_again(status):
    assert drive([problem(status)])[1] == []


def test_a_planner_that_found_nothing_in_its_time_is_an_answer():
    found, pauses, _ = drive([problem(504, "not_found_in_time", kind="planning")])
    assert (found.status, pauses) == (504, [])


@pytest.mark.parametrize(
    "code", ["server_redirects", "server_answer_invalid", "server_answer_too_large"]
)
def test_a_server_that_misbehaves_is_not_asked_again(code):
    found, pauses, _ = drive([ServiceError("It lies.", code=code)])
    assert (found.code, pauses) == (code, [])
    assert not is_unavailable(found)


@pytest.mark.parametrize("trouble", [DOWN, problem(503), problem(429)])
def test_what_may_not_be_done_twice_is_asked_once(trouble):
    found, pauses, _ = drive([trouble], request=ONCE)
    assert is_unavailable(found)
    assert pauses == []


def test_a_busy_server_is_asked_until_the_deadline():
    """It lives: failures do not add up, and it says how long to wait at least."""
    busy = problem(429, retry_after="3")
    found, pauses, _ = drive([busy] * 20 + [OK])
    assert found is OK
    assert len(pauses) == 20
    assert min(pauses) >= 3.0
    found, pauses, _ = drive([busy] * 20, seconds=30.0)
    assert (found.code, found.details["status"]) == ("busy", 429)
    assert sum(pauses) <= 30.0


def test_no_pause_begins_that_would_end_too_late():
    found, pauses, _ = drive([problem(503, retry_after="100")], seconds=5.0)
    assert is_unavailable(found)
    assert pauses == []


def test_pauses_grow_to_a_most_and_are_random():
    policy = RetryPolicy(attempts=9, base_seconds=1.0, most_seconds=4.0, random=lambda: 0.5)
    assert [policy.pause_seconds(n) for n in range(1, 7)] == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert policy.pause_seconds(10**6) == 2.0
    own = RetryPolicy()
    drawn = {own.pause_seconds(3) for _ in range(50)}
    assert len(drawn) > 40
    assert all(0 <= seconds <= 1.0 for seconds in drawn)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("7", 7.0), (" 7 ", 7.0), ("0", 0.0), ("61", 60.0), ("9" * 400, 60.0), ("-5", 0.0), ("", 0.0), ("soon", 0.0),
     ("1.5", 0.0), ("²", 0.0), ("Fri, 99 Foo 2026 99:99:99 GMT", 0.0)],
)  # fmt: skip
def test_retry_after(text, expected):
    assert retry_after_seconds(text, RetryPolicy()) == expected


def test_retry_after_as_a_date():
    now = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
    for seconds, expected in ((12, 12.0), (-12, 0.0), (10**6, 60.0)):
        text = email.utils.format_datetime(now + dt.timedelta(seconds=seconds), usegmt=True)
        assert retry_after_seconds(text, RetryPolicy(), now.timestamp) == expected


def test_which_errors_say_that_the_service_is_out_of_reach():
    assert is_unavailable(DOWN)
    assert is_unavailable(ServiceError("Full.", code="queue_full", details={"status": 429}))
    assert not is_unavailable(ServiceError("Who?", code="token_missing", details={"status": 401}))
    assert not is_unavailable(BudgetError("No.", code="ram_below_floor", details={"status": 503}))
    assert not is_unavailable(PlanningError("No.", details={"status": 504}))
