"""Recorder: bounded rates, the newest is never lost, a database that comes and goes, fences."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from poet_core.documents import parse_json
from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.execution.judging import JudgedPlan
from poet_service.execution.recorder import Recorder
from poet_service.jobs.records import EventKind
from poet_service.jobs.states import SolveState
from tests.service.execution.cases import LIMITS, request_bytes, submit
from tests.service.execution.odd_child import plans

PLANS = [
    JudgedPlan(plan=plan, cost=plan.objective_value, bound=1e-9)
    for plan in plans(parse_json(request_bytes("answer")), 4)
]


def claimed(store: Store, **limits: float) -> tuple[Recorder, str]:
    _, solve_id = submit(store, request_bytes("answer"))
    record = store.claim(solve_id, "a test")
    assert record is not None
    return Recorder(store, solve_id, record.attempt, replace(LIMITS, **limits)), solve_id


def told(store: Store, solve_id: str, kind: EventKind) -> list[object]:
    return [one.data for one in store.events(solve_id, 0, 1000) if one.kind is kind]


def test_what_comes_too_fast_is_left_out_and_the_newest_is_not(store: Store) -> None:
    recorder, solve_id = claimed(store, write_seconds=30.0)
    for number in range(100):
        recorder.progress(f"sentence {number}")
        recorder.incumbent(PLANS[min(number, 3)])
        recorder.log(f"line {number}\n")
        recorder.tick()
    recorder.flush()
    messages = [one["message"] for one in told(store, solve_id, EventKind.PROGRESS)]
    assert messages == ["sentence 0", "sentence 99"]
    costs = [one["cost"] for one in told(store, solve_id, EventKind.INCUMBENT)]
    assert costs == [PLANS[0].cost, PLANS[3].cost]
    text, _ = store.read_log(solve_id, 0, 100_000)
    assert text == "".join(f"line {number}\n" for number in range(100))


def test_the_log_is_bounded(store: Store) -> None:
    recorder, solve_id = claimed(store, log_bytes=10)
    for _ in range(5):
        recorder.log("1234\n")
        recorder.flush()
    assert store.read_log(solve_id, 0, 100)[0] == "1234\n1234\n"


def test_a_bound_is_never_above_the_cost_and_none_without_a_plan(store: Store) -> None:
    recorder, solve_id = claimed(store)
    recorder.bound(1.0)
    recorder.flush()
    assert told(store, solve_id, EventKind.BOUND) == []
    recorder.incumbent(PLANS[0])
    recorder.bound(1e9)
    recorder.flush()
    (bound,) = told(store, solve_id, EventKind.BOUND)
    assert (bound["bound"], bound["gap"]) == (PLANS[0].cost, 0.0)


def test_news_waits_for_a_database_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, solve_id = claimed(store)

    def away(*_arguments: object, **_named: object) -> bool:
        raise ServiceError("Away.", code="database_unavailable")

    with monkeypatch.context() as patched:
        for write in ("progress", "incumbent", "log", "heartbeat", "solve"):
            patched.setattr(store, write, away)
        recorder.progress("a sentence")
        recorder.incumbent(PLANS[1])
        recorder.log("a line\n")
        recorder.flush()
        assert not recorder.fenced
    recorder.flush()
    assert len(told(store, solve_id, EventKind.PROGRESS)) == 1
    assert len(told(store, solve_id, EventKind.INCUMBENT)) == 1
    assert store.read_log(solve_id, 0, 100)[0] == "a line\n"


def test_an_end_is_tried_until_it_is_written_or_nobody_waits(store: Store) -> None:
    recorder, _ = claimed(store, database_seconds=0.3)
    tries = 0

    def third_time() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ServiceError("Away.", code="database_unavailable")
        return "written"

    def never() -> str:
        raise ServiceError("Away.", code="database_unavailable")

    patient = Recorder(store, "0" * 32, 1, replace(LIMITS, database_seconds=60.0))
    assert patient.end(third_time, threading.Event()) == "written"
    assert recorder.end(never, threading.Event()) is None
    leaving = threading.Event()
    leaving.set()
    began = time.monotonic()
    assert patient.end(never, leaving) is None
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("how", ["look", "heartbeat", "write"])
def test_a_solve_that_was_lost_is_written_to_no_more(how: str, store: Store) -> None:
    seconds = {"look_seconds": 1e9, "heartbeat_seconds": 1e9}
    if how != "write":
        seconds[f"{how}_seconds"] = 0.0
    recorder, solve_id = claimed(store, **seconds)
    assert store.lost(solve_id, 1) is SolveState.QUEUED
    if how == "write":
        recorder.progress("too late")
    recorder.tick()
    assert recorder.fenced
    assert told(store, solve_id, EventKind.PROGRESS) == []


def test_the_same_plan_is_stored_once(store: Store) -> None:
    recorder, solve_id = claimed(store)
    assert recorder.save(PLANS[0])
    assert recorder.save(PLANS[0])
    assert len(told(store, solve_id, EventKind.INCUMBENT)) == 1


def test_nobody_wants_it_any_more(store: Store) -> None:
    job_id, solve_id = submit(store, request_bytes("answer"))
    record = store.claim(solve_id, "a test")
    recorder = Recorder(store, solve_id, record.attempt, replace(LIMITS, look_seconds=0.0))
    recorder.tick()
    assert not recorder.stop_requested
    store.leave(job_id, 0, discard=False)
    recorder.tick()
    assert recorder.stop_requested
    assert not recorder.fenced
