"""Submissions: who shares a solve with whom, what a retry is, and what is too much."""

import pytest

from poet_core.errors import ServiceError
from poet_service.jobs.records import JobKind, QueueLimits
from poet_service.jobs.states import SolveState


def test_a_new_request_waits_for_a_worker(scene, clock):
    submitted = scene.submit(b"k", warm_start=b"earlier plan")
    assert submitted.created_solve
    assert not submitted.replayed
    solve = scene.store.solve(submitted.solve.id)
    assert solve == submitted.solve
    assert (solve.state, solve.attempt, solve.has_plan) == (SolveState.QUEUED, 0, False)
    assert solve.created_at == clock.now
    assert scene.store.job(submitted.job.id, 1) == submitted.job
    assert scene.store.request(solve.id) == b"request of k"
    assert scene.store.warm_start(solve.id) == b"earlier plan"
    assert scene.store.queued(10) == [solve.id]


@pytest.mark.parametrize("state", ["queued", "running", "finished"])
def test_the_same_request_joins(scene, state):
    first = scene.submit(b"k", token=1)
    if state != "queued":
        scene.store.claim(first.solve.id, "worker")
    if state == "finished":
        scene.store.finish(first.solve.id, 1, b"plan", 1.0, 1.0, 0.0, 1.0)
    second = scene.submit(b"k", token=2)
    assert second.solve.id == first.solve.id
    assert second.solve.state == state
    assert not second.created_solve
    assert second.job.id != first.job.id


def test_another_tenant_never_shares(scene):
    first, second = scene.finished(b"k", token=1), scene.submit(b"k", token=3)
    assert second.created_solve
    assert second.solve.id != first.solve.id
    assert scene.store.find_solve("a", b"k").id == first.solve.id
    assert scene.store.find_solve("b", b"k").id == second.solve.id


@pytest.mark.parametrize("end", ["fail", "stopped", "corrupt", "stop_requested"])
def test_what_did_not_end_well_is_solved_anew(scene, end):
    first = scene.submit(b"k")
    scene.store.claim(first.solve.id, "worker")
    if end == "fail":
        scene.store.fail(first.solve.id, 1, {"code": "no_plan_found"})
    elif end == "stopped":
        scene.store.stopped(first.solve.id, 1)
    elif end == "corrupt":
        scene.store.finish(first.solve.id, 1, b"plan", 1.0, 1.0, 0.0, 1.0)
        scene.store.corrupt(first.solve.id)
    else:
        scene.store.leave(first.job.id, 1, discard=False)
    second = scene.submit(b"k")
    assert second.created_solve
    assert second.solve.id != first.solve.id


class TestIdempotency:
    def test_a_retry_gets_the_same_job(self, scene):
        first = scene.submit(b"k", idempotency=("once", b"digest"))
        again = scene.submit(b"k", idempotency=("once", b"digest"))
        assert again.replayed
        assert not again.created_solve
        assert again.job == first.job
        assert len(scene.store.jobs(1, limit=10, before=None)) == 1

    def test_another_request_under_the_key_is_refused(self, scene):
        scene.submit(b"k", idempotency=("once", b"digest"))
        with pytest.raises(ServiceError) as caught:
            scene.submit(b"l", idempotency=("once", b"other"))
        assert caught.value.code == "idempotency_conflict"
        assert scene.store.queued(10) == [scene.store.find_solve("a", b"k").id]

    def test_a_frontier_is_no_retry_of_a_plan(self, scene):
        scene.submit(b"k", idempotency=("once", b"digest"))
        with pytest.raises(ServiceError) as caught:
            scene.frontier(b"k", idempotency=("once", b"digest"))
        assert caught.value.code == "idempotency_conflict"

    def test_tokens_do_not_see_each_others_keys(self, scene):
        first = scene.submit(b"k", token=1, idempotency=("once", b"digest"))
        other = scene.submit(b"l", token=2, idempotency=("once", b"other"))
        assert not other.replayed
        assert other.job.id != first.job.id

    def test_a_retry_counts_for_no_limit(self, scene):
        limits = QueueLimits(queue_depth=1, active_jobs_of_token=1)
        scene.submit(b"k", idempotency=("once", b"digest"), limits=limits)
        assert scene.submit(b"k", idempotency=("once", b"digest"), limits=limits).replayed


class TestLimits:
    def test_a_full_queue_refuses_new_solves(self, scene):
        limits = QueueLimits(queue_depth=2, active_jobs_of_token=100, retry_after_seconds=7)
        scene.submit(b"1", limits=limits)
        scene.submit(b"2", limits=limits)
        with pytest.raises(ServiceError) as caught:
            scene.submit(b"3", limits=limits)
        assert caught.value.code == "queue_full"
        assert caught.value.details == {"retry_after_seconds": 7, "queued": 2, "limit": 2}
        assert scene.store.find_solve("a", b"3") is None
        assert scene.submit(b"2", limits=limits).solve.state == SolveState.QUEUED

    @pytest.mark.parametrize(
        ("took", "running", "waiting", "expected"),
        [
            ([], 1, 40, 2),  # nobody knows how long a solve takes
            ([10.0], 0, 8, 10),  # the eighth of what waits is one solve
            ([10.0], 1, 40, 50),  # the more wait
            ([10.0], 4, 40, 13),  # the more work
            ([16.0, 4.0], 1, 16, 20),
            ([1000.0], 1, 40, 60),  # nobody waits longer
            ([-5.0], 1, 40, 2),  # the clock was put back
        ],
    )
    def test_who_is_refused_is_told_to_wait_as_long_as_a_part_of_the_queue_takes(
        self, scene, clock, took, running, waiting, expected
    ):
        for seconds in took:
            solve = scene.running(b"took %f" % seconds)
            clock.now += seconds
            scene.store.finish(solve.id, solve.attempt, b"plan", 3.0, 2.0, 0.5, 1.0)
        for number in range(running):
            scene.running(b"runs %d" % number, token=2)
        for number in range(waiting):
            scene.submit(b"waits %d" % number)
        for queue_depth, active_jobs, code in (
            (waiting, 100, "queue_full"),
            (100, waiting, "too_many_jobs"),
        ):
            limits = QueueLimits(
                queue_depth=queue_depth, active_jobs_of_token=active_jobs, retry_after_seconds=2
            )
            with pytest.raises(ServiceError) as caught:
                scene.submit(b"one more", limits=limits)
            assert caught.value.code == code
            assert caught.value.details["retry_after_seconds"] == expected

    def test_a_claimed_solve_gives_its_place_in_the_queue_back(self, scene):
        limits = QueueLimits(queue_depth=1, active_jobs_of_token=100)
        scene.store.claim(scene.submit(b"1", limits=limits).solve.id, "worker")
        assert scene.submit(b"2", limits=limits).created_solve

    def test_a_token_has_so_many_active_jobs(self, scene):
        limits = QueueLimits(queue_depth=100, active_jobs_of_token=2)
        scene.submit(b"1", limits=limits)
        scene.frontier(b"2", b"3", b"4", limits=limits)  # one job, however many solves
        with pytest.raises(ServiceError) as caught:
            scene.submit(b"1", limits=limits)
        assert caught.value.code == "too_many_jobs"
        assert caught.value.details["active_jobs"] == 2
        assert scene.submit(b"1", token=2, limits=limits).solve.state == SolveState.QUEUED

    def test_ended_and_left_jobs_do_not_count(self, scene):
        limits = QueueLimits(queue_depth=100, active_jobs_of_token=1)
        scene.finished(b"1", limits=limits)
        left = scene.submit(b"2", limits=limits)
        scene.store.leave(left.job.id, 1, discard=False)
        assert scene.submit(b"3", limits=limits).created_solve

    def test_a_stored_answer_is_given_however_busy_the_service_is(self, scene):
        scene.finished(b"answered")
        scene.submit(b"waiting")
        limits = QueueLimits(queue_depth=0, active_jobs_of_token=0)
        assert scene.submit(b"answered", limits=limits).solve.state == SolveState.FINISHED


class TestFrontiers:
    def test_points_share_solves_and_keep_their_order(self, scene):
        known = scene.finished(b"2")
        frontier = scene.frontier(b"1", b"2", b"1")
        first, second, third = frontier.job.points
        assert [point.ram_bytes for point in frontier.job.points] == [1000, 1001, 1002]
        assert first.solve_id == third.solve_id
        assert second.solve_id == known.solve.id
        assert frontier.created_solves == (first.solve_id,)
        assert frontier.job.kind is JobKind.FRONTIER
        assert frontier.job.solve_ids == (first.solve_id, second.solve_id)
        assert set(frontier.solves) == {first.solve_id, second.solve_id}
        assert scene.store.job(frontier.job.id, 1) == frontier.job
        assert scene.store.jobs(1, limit=1, before=None) == [frontier.job]

    def test_all_of_it_or_nothing(self, scene):
        limits = QueueLimits(queue_depth=2, active_jobs_of_token=100)
        with pytest.raises(ServiceError) as caught:
            scene.frontier(b"1", b"2", b"3", limits=limits)
        assert caught.value.code == "queue_full"
        assert scene.store.queued(10) == []
        assert scene.store.jobs(1, limit=10, before=None) == []

    def test_a_retry_gets_the_same_frontier(self, scene):
        first = scene.frontier(b"1", b"2", idempotency=("once", b"digest"))
        again = scene.frontier(b"1", b"2", idempotency=("once", b"digest"))
        assert again.replayed
        assert again.created_solves == ()
        assert (again.job, again.solves) == (first.job, first.solves)
