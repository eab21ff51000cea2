"""run_solve: whatever a child does, the solve ends as it should, and every stored plan is judged."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from itertools import pairwise

import pytest

from poet_core.documents import canonical_json, parse_json
from poet_core.plan_document import plan_to_document, read_plan
from poet_service.database.store import Store
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.nursery import Nursery
from poet_service.execution.run_solve import run_solve
from poet_service.jobs.records import EventKind, SolveRecord
from poet_service.jobs.states import SolveState
from tests.service.execution.cases import (
    LIMITS,
    NEEDS_SEARCH,
    judged_cost,
    processes_below,
    request_bytes,
    submit,
    until,
)
from tests.service.execution.odd_child import plans


def carried_out(
    store: Store, solve_id: str, nursery: Nursery, limits: ExecutionLimits = LIMITS
) -> SolveRecord:
    """The solve after it was carried out."""
    state = run_solve(store, solve_id, "a test", threading.Event(), limits, nursery=nursery)
    record = store.solve(solve_id)
    assert record is not None
    assert record.state is state
    return record


def events(store: Store, solve_id: str, kind: EventKind) -> list[dict[str, object]]:
    return [dict(one.data) for one in store.events(solve_id, 0, 1000) if one.kind is kind]


def test_a_real_plan_end_to_end(store: Store, nursery: Nursery) -> None:
    _, solve_id = submit(store, request_bytes("mlp", ram_bytes=NEEDS_SEARCH, wall_seconds=3))
    record = carried_out(store, solve_id, nursery, replace(LIMITS, wall_grace_seconds=60))
    assert record.state is SolveState.FINISHED
    assert record.cost == pytest.approx(judged_cost(store, solve_id))
    assert record.bound is not None
    assert record.bound <= record.cost
    assert record.gap == pytest.approx((record.cost - record.bound) / record.cost)
    told = events(store, solve_id, EventKind.INCUMBENT)
    assert told
    assert all(later["cost"] <= earlier["cost"] for earlier, later in pairwise(told))
    text, _ = store.read_log(solve_id, 0, 10_000)
    assert "Better plan by" in text


def test_what_fits_is_answered_with_its_proof(store: Store, nursery: Nursery) -> None:
    _, solve_id = submit(store, request_bytes("mlp"))
    record = carried_out(store, solve_id, nursery)
    assert (record.state, record.gap) == (SolveState.FINISHED, 0.0)


def test_incumbents_arrive_in_order_and_each_passes_the_judge(
    store: Store, odd_nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    stored = store.incumbent

    def incumbent(solve_id, attempt, plan, *figures, **names):
        seen.append(read_plan(plan))
        return stored(solve_id, attempt, plan, *figures, **names)

    monkeypatch.setattr(store, "incumbent", incumbent)
    request = request_bytes("steps")
    _, solve_id = submit(store, request)
    record = carried_out(store, solve_id, odd_nursery)
    assert record.state is SolveState.FINISHED
    costs = [one["cost"] for one in events(store, solve_id, EventKind.INCUMBENT)]
    assert costs == [plan.objective_value for plan in seen]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 1
    assert record.cost == min(costs)
    (bound,) = events(store, solve_id, EventKind.BOUND)
    assert bound["bound"] == 2e-9
    assert {"message": "all told"}.items() <= events(store, solve_id, EventKind.PROGRESS)[0].items()
    text, _ = store.read_log(solve_id, 0, 10_000)
    assert text.splitlines()[:2] == ["found by waste 3", "and told\\u001b[31m"]


def _started(store: Store, solve_id: str, nursery: Nursery, **events: threading.Event):
    stop = events.pop("stop", threading.Event())
    thread = threading.Thread(
        target=run_solve,
        args=(store, solve_id, "a test", stop, LIMITS),
        kwargs={"nursery": nursery, **events},
    )
    thread.start()
    until(lambda: store.solve(solve_id).has_plan)
    return thread


@pytest.mark.parametrize("life", ["hold", "deaf"])
def test_a_stop_keeps_the_incumbent(life: str, store: Store, odd_nursery: Nursery) -> None:
    _, solve_id = submit(store, request_bytes(life))
    stop = threading.Event()
    thread = _started(store, solve_id, odd_nursery, stop=stop)
    asked = time.monotonic()
    stop.set()
    thread.join(60)
    seconds = time.monotonic() - asked
    record = store.solve(solve_id)
    assert record.state is SolveState.STOPPED
    assert record.cost == judged_cost(store, solve_id)
    plan = read_plan(store.plan(solve_id))
    if life == "hold":  # it had better words when it was asked
        assert plan.planned_by.formulation == "waste 0"
    else:
        assert plan.planned_by.status.startswith("The solve was stopped.")
    # Two seconds are what is asked of the product; the rest is for a busy machine.
    assert ExecutionLimits().look_seconds + ExecutionLimits().stop_seconds < 2
    assert seconds < 2 + 8


def test_a_stop_that_only_the_store_knows_of(store: Store, odd_nursery: Nursery) -> None:
    job_id, solve_id = submit(store, request_bytes("hold"))
    thread = _started(store, solve_id, odd_nursery)
    left = store.leave(job_id, 0, discard=False)
    assert left.solves_to_stop == (solve_id,)
    thread.join(60)
    assert store.solve(solve_id).state is SolveState.STOPPED


def test_leaving_puts_the_solve_back_uncounted_with_its_plan(
    store: Store, odd_nursery: Nursery
) -> None:
    _, solve_id = submit(store, request_bytes("deaf"))
    leaving = threading.Event()
    thread = _started(store, solve_id, odd_nursery, leaving=leaving)
    leaving.set()
    thread.join(60)
    record = store.solve(solve_id)
    assert (record.state, record.losses, record.has_plan) == (SolveState.QUEUED, 0, True)
    judged_cost(store, solve_id)


def test_a_later_attempt_begins_with_what_the_earlier_one_had(
    store: Store, odd_nursery: Nursery
) -> None:
    request = request_bytes("start")
    _, solve_id = submit(store, request)
    *_, cheap = plans(parse_json(request), 2)
    claimed = store.claim(solve_id, "the lost one")
    document = canonical_json(plan_to_document(cheap))
    store.incumbent(solve_id, claimed.attempt, document, cheap.objective_value, None, None, 1.0)
    assert store.lost(solve_id, claimed.attempt) is SolveState.QUEUED
    record = carried_out(store, solve_id, odd_nursery)
    assert (record.state, record.attempt) == (SolveState.FINISHED, 2)
    assert record.cost == cheap.objective_value == judged_cost(store, solve_id)


def test_a_warm_start_reaches_the_planner(store: Store, odd_nursery: Nursery) -> None:
    request = request_bytes("start")
    dear, _cheap = plans(parse_json(request), 2)
    given = canonical_json(plan_to_document(dear))
    _, solve_id = submit(store, request, warm_start=given)
    record = carried_out(store, solve_id, odd_nursery)
    assert record.cost == dear.objective_value


@pytest.mark.parametrize(
    ("life", "code"),
    [
        ("die", "solver_crashed"),
        ("error", "not_found_in_time"),
        ("nesting", "solver_crashed"),
        ("long-line", "solver_crashed"),
        ("flood", "solver_crashed"),
        ("stderr-flood", "solver_crashed"),
        ("cheat", "internal"),
        ("other", "internal"),
        ("bound-too-high", "internal"),
        ("mute", "solver_overran"),
    ],
)
def test_no_plan_ends_as_an_honest_failure(
    life: str, code: str, store: Store, odd_nursery: Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    limits = replace(
        LIMITS, line_bytes=2**16, output_bytes=2**17, wall_grace_seconds=0.3, stop_seconds=0.2
    ) if life in ("long-line", "flood", "stderr-flood", "mute") else LIMITS  # fmt: skip
    seconds = 0.2 if life == "mute" else 60
    _, solve_id = submit(store, request_bytes(life, wall_seconds=seconds))
    with caplog.at_level(logging.WARNING):
        record = carried_out(store, solve_id, odd_nursery, limits)
    assert record.state is SolveState.FAILED
    assert record.error["code"] == code
    assert record.error["kind"]
    assert not record.has_plan
    assert "Traceback" not in str(record.error)
    if life == "die":
        assert "I regret nothing" in caplog.text


@pytest.mark.parametrize(
    ("life", "word"),
    [("crash", "died"), ("eat", "memory limit"), ("garbage", "no answer"), ("deaf", "wall limit")],
)
def test_a_judged_plan_outlives_its_child(
    life: str, word: str, store: Store, odd_nursery: Nursery
) -> None:
    limits = replace(LIMITS, memory_bytes=400 * 2**20, stop_seconds=0.2)
    seconds = 60.0
    if life == "deaf":
        seconds, limits = 0.2, replace(limits, wall_grace_seconds=2)
    _, solve_id = submit(store, request_bytes(life, wall_seconds=seconds))
    record = carried_out(store, solve_id, odd_nursery, limits)
    assert record.state is SolveState.FINISHED
    assert record.cost == judged_cost(store, solve_id)
    status = read_plan(store.plan(solve_id)).planned_by.status
    assert word in status
    assert status.endswith("This is the best plan until then.")
    notes = [one["message"] for one in events(store, solve_id, EventKind.PROGRESS)]
    assert any(word in note for note in notes)


def test_the_planner_itself_at_its_memory_limit(store: Store, nursery: Nursery) -> None:
    _, solve_id = submit(store, request_bytes("mlp", ram_bytes=NEEDS_SEARCH, wall_seconds=3))
    limits = replace(LIMITS, memory_bytes=64 * 2**20, wall_grace_seconds=60)
    record = carried_out(store, solve_id, nursery, limits)
    # Less address space than Python has mapped already: not even a thread can begin.
    assert record.state is SolveState.FAILED
    assert record.error["code"] in ("solver_out_of_memory", "solver_crashed", "internal")


def test_a_request_that_is_refused(store: Store, odd_nursery: Nursery) -> None:
    document = parse_json(request_bytes("answer")) | {"device": "no-such-device"}
    _, solve_id = submit(store, canonical_json(document))
    record = carried_out(store, solve_id, odd_nursery)
    assert record.state is SolveState.FAILED
    assert (record.error["code"], record.error["kind"]) == ("unknown_device", "device")


def test_a_worker_that_lost_its_solve_writes_nothing_more(
    store: Store, odd_nursery: Nursery
) -> None:
    _, solve_id = submit(store, request_bytes("hold"))
    thread = _started(store, solve_id, odd_nursery)
    assert store.lost(solve_id, 1) is SolveState.QUEUED
    thread.join(60)
    assert not thread.is_alive()
    record = store.solve(solve_id)
    assert (record.state, record.attempt) == (SolveState.QUEUED, 1)


def test_a_solve_that_another_has_is_left_alone(store: Store, odd_nursery: Nursery) -> None:
    _, solve_id = submit(store, request_bytes("answer"))
    store.claim(solve_id, "another")
    assert carried_out(store, solve_id, odd_nursery).worker == "another"
    nobody = run_solve(store, "0" * 32, "me", threading.Event(), LIMITS, nursery=odd_nursery)
    assert nobody is None


def test_the_loss_of_the_warm_process_is_counted_and_survived(
    store: Store, odd_nursery: Nursery
) -> None:
    _, solve_id = submit(store, request_bytes("deaf"))
    for state in (SolveState.QUEUED, SolveState.FINISHED):
        thread = _started(store, solve_id, odd_nursery)
        until(lambda: store.solve(solve_id).state is SolveState.RUNNING)
        until(lambda: processes_below(odd_nursery.root))
        odd_nursery.kill()
        thread.join(60)
        assert store.solve(solve_id).state is state
    judged_cost(store, solve_id)
    _, another = submit(store, request_bytes("answer"))
    assert carried_out(store, another, odd_nursery).state is SolveState.FINISHED
