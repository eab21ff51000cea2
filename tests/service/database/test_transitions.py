"""Transitions: each from where it may begin and from nowhere else, with its event, fenced."""

import pytest

from poet_service.jobs.states import MOST_ATTEMPTS, SolveState

STALE = 7  # an attempt that no solve here has


class TestClaiming:
    def test_one_worker_gets_a_solve(self, scene, clock):
        solve_id = scene.submit().solve.id
        clock.now += 5
        solve = scene.store.claim(solve_id, "first")
        assert (solve.state, solve.attempt, solve.worker) == (SolveState.RUNNING, 1, "first")
        assert solve.started_at == solve.heartbeat_at == clock.now
        assert scene.store.solve(solve_id) == solve
        assert scene.store.claim(solve_id, "second") is None
        assert scene.store.solve(solve_id) == solve
        assert scene.store.running() == [solve]

    def test_nobody_claims_what_does_not_exist_or_has_ended(self, scene):
        assert scene.store.claim("0" * 32, "worker") is None
        assert scene.store.claim(scene.finished().solve.id, "worker") is None


class TestReports:
    def test_an_incumbent_is_there_at_once(self, scene):
        solve = scene.running()
        assert scene.store.incumbent(solve.id, 1, b"plan", 5.0, 1.0, 4.0, 0.5, by="greedy")
        found = scene.store.solve(solve.id)
        assert (found.cost, found.bound, found.gap, found.elapsed_seconds) == (5.0, 1.0, 4.0, 0.5)
        assert found.has_plan
        assert scene.store.plan(solve.id) == b"plan"
        event = scene.store.events(solve.id, 2, 10)[0]
        assert event.kind == "incumbent"
        assert event.data == {
            "cost": 5.0, "bound": 1.0, "gap": 4.0, "elapsed_seconds": 0.5, "by": "greedy",
        }  # fmt: skip
        assert scene.store.incumbent(solve.id, 1, b"better", 4.0, 1.0, 3.0, 0.6)
        assert scene.store.plan(solve.id) == b"better"

    def test_a_bound_leaves_the_plan_as_it_is(self, scene):
        solve = scene.running()
        scene.store.incumbent(solve.id, 1, b"plan", 5.0, 1.0, 4.0, 0.5)
        assert scene.store.bound(solve.id, 1, 2.0, 3.0, 0.7)
        found = scene.store.solve(solve.id)
        assert (found.cost, found.bound, found.gap, found.elapsed_seconds) == (5.0, 2.0, 3.0, 0.7)
        assert scene.store.plan(solve.id) == b"plan"
        assert scene.store.events(solve.id, 3, 10)[0].data == {
            "bound": 2.0, "gap": 3.0, "elapsed_seconds": 0.7,
        }  # fmt: skip

    @pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
    def test_what_is_no_number_is_stored_as_none(self, scene, value):
        solve = scene.running()
        assert scene.store.incumbent(solve.id, 1, b"plan", 5.0, value, value, 0.5)
        found = scene.store.solve(solve.id)
        assert (found.cost, found.bound, found.gap) == (5.0, None, None)
        assert scene.store.events(solve.id, 2, 1)[0].data["bound"] is None

    def test_a_heartbeat_is_no_event(self, scene, clock):
        solve = scene.running()
        clock.now += 5
        assert scene.store.heartbeat(solve.id, 1)
        found = scene.store.solve(solve.id)
        assert found.heartbeat_at == clock.now
        assert found.last_seq == solve.last_seq


class TestEnds:
    def test_finished(self, scene, clock):
        solve = scene.running()
        clock.now += 5
        assert scene.store.finish(solve.id, 1, b"plan", 3.0, 3.0, 0.0, 1.5)
        found = scene.store.solve(solve.id)
        assert (found.state, found.cost, found.gap) == (SolveState.FINISHED, 3.0, 0.0)
        assert found.finished_at == clock.now
        assert found.error is None
        assert scene.store.plan(solve.id) == b"plan"
        event = scene.store.events(solve.id, 2, 10)[-1]
        assert event.kind == "done"
        assert event.data["state"] == "finished"
        assert event.data["cost"] == 3.0
        assert found.last_seq == event.seq

    def test_failed(self, scene):
        solve = scene.running()
        error = {"code": "no_plan_found", "detail": "None was found.\u2028\0", "hint": "", "n": 3}
        assert scene.store.fail(solve.id, 1, error)
        found = scene.store.solve(solve.id)
        assert found.state is SolveState.FAILED
        assert found.error == error
        assert scene.store.events(solve.id, 2, 10)[-1].data["error"] == error

    @pytest.mark.parametrize(
        "details",
        [{"x": "y" * 100_000}, {"x": float("nan")}, {"x": object()}],
        ids=["long", "nan", "object"],
    )
    def test_an_error_that_cannot_be_stored_keeps_its_sentence(self, scene, details):
        solve = scene.running()
        sentence = {"code": "odd", "kind": "planning", "detail": "What happened.", "hint": "Do."}
        assert scene.store.fail(solve.id, 1, sentence | details)
        assert scene.store.solve(solve.id).error == sentence

    def test_stopped_keeps_the_incumbent(self, scene):
        solve = scene.running()
        scene.store.incumbent(solve.id, 1, b"plan", 5.0, 1.0, 4.0, 0.5)
        assert scene.store.stopped(solve.id, 1)
        assert scene.state(solve.id) is SolveState.STOPPED
        assert scene.store.plan(solve.id) == b"plan"
        assert scene.store.events(solve.id, 3, 10)[-1].data["has_plan"]

    def test_a_stored_plan_that_is_refused_is_erased(self, scene):
        solve_id = scene.finished().solve.id
        scene.store.corrupt(solve_id)
        found = scene.store.solve(solve_id)
        assert found.state is SolveState.FAILED
        assert found.error["code"] == "stored_plan_invalid"
        assert not found.has_plan
        assert scene.store.plan(solve_id) is None

    def test_only_a_finished_solve_is_called_corrupt(self, scene):
        solve = scene.running()
        scene.store.corrupt(solve.id)
        scene.store.corrupt("0" * 32)
        assert scene.store.solve(solve.id) == solve


class TestLosses:
    def test_a_lost_solve_is_queued_once_more_and_then_fails(self, scene):
        solve = scene.running()
        scene.store.incumbent(solve.id, 1, b"plan", 5.0, 1.0, 4.0, 0.5)
        for attempt in range(1, MOST_ATTEMPTS):
            assert scene.store.lost(solve.id, attempt) is SolveState.QUEUED
            found = scene.store.solve(solve.id)
            assert (found.worker, found.started_at, found.heartbeat_at) == (None, None, None)
            assert scene.store.plan(solve.id) == b"plan"
            assert scene.store.claim(solve.id, "next").attempt == attempt + 1
        assert scene.store.lost(solve.id, MOST_ATTEMPTS) is SolveState.FAILED
        assert scene.store.solve(solve.id).error["code"] == "worker_lost"
        assert scene.store.lost(solve.id, MOST_ATTEMPTS) is None
        reasons = [event.data.get("reason") for event in scene.store.events(solve.id, 0, 99)]
        assert reasons.count("worker_lost") == MOST_ATTEMPTS - 1

    def test_a_lost_solve_that_nobody_wants_is_stopped(self, scene):
        submitted = scene.submit()
        scene.store.claim(submitted.solve.id, "worker")
        scene.store.leave(submitted.job.id, 1, discard=False)
        assert scene.store.lost(submitted.solve.id, 1) is SolveState.STOPPED

    def test_a_released_solve_has_lost_nothing(self, scene):
        solve = scene.running()
        for attempt in range(1, 5):
            assert scene.store.release(solve.id, attempt)
            assert scene.store.claim(solve.id, "next").attempt == attempt + 1
        assert scene.store.solve(solve.id).losses == 0
        assert scene.store.lost(solve.id, 5) is SolveState.QUEUED
        assert scene.store.solve(solve.id).losses == 1

    def test_a_released_solve_that_nobody_wants_is_stopped(self, scene):
        submitted = scene.submit()
        scene.store.claim(submitted.solve.id, "worker")
        scene.store.leave(submitted.job.id, 1, discard=False)
        assert scene.store.release(submitted.solve.id, 1)
        assert scene.state(submitted.solve.id) is SolveState.STOPPED


def _writes(store, solve_id, attempt):
    """Everything that a worker may write."""
    return {
        "heartbeat": lambda: store.heartbeat(solve_id, attempt),
        "incumbent": lambda: store.incumbent(solve_id, attempt, b"late", 0.0, 0.0, 0.0, 9.0),
        "bound": lambda: store.bound(solve_id, attempt, 0.0, 0.0, 9.0),
        "progress": lambda: store.progress(solve_id, attempt, "late", 9.0),
        "log": lambda: store.log(solve_id, attempt, "late"),
        "finish": lambda: store.finish(solve_id, attempt, b"late", 0.0, 0.0, 0.0, 9.0),
        "fail": lambda: store.fail(solve_id, attempt, {"code": "late"}),
        "stopped": lambda: store.stopped(solve_id, attempt),
        "lost": lambda: store.lost(solve_id, attempt),
        "release": lambda: store.release(solve_id, attempt),
    }


@pytest.mark.parametrize("write", list(_writes(None, "", 0)))
@pytest.mark.parametrize(
    "why", ["another attempt", "lost", "released", "reclaimed", "finished", "queued", "unknown"]
)
def test_who_lost_a_solve_writes_nothing(scene, why, write):
    store = scene.store
    solve_id, attempt = scene.running().id, 1
    store.incumbent(solve_id, 1, b"good", 5.0, 1.0, 4.0, 0.5)
    store.log(solve_id, 1, "good")
    if why == "another attempt":
        attempt = STALE
    elif why == "finished":
        store.finish(solve_id, 1, b"good", 5.0, 1.0, 4.0, 0.5)
    elif why == "unknown":
        solve_id = "0" * 32
    elif why == "queued":
        solve_id, attempt = scene.submit(b"queued").solve.id, 0
    else:
        (store.release if why == "released" else store.lost)(solve_id, 1)
        if why == "reclaimed":
            store.claim(solve_id, "next")
    before = store.solve(solve_id), store.plan(solve_id), store.read_log(solve_id, 0, 100)
    assert not _writes(store, solve_id, attempt)[write]()
    assert before == (
        store.solve(solve_id),
        store.plan(solve_id),
        store.read_log(solve_id, 0, 100),
    )
