"""Jobs: what a token sees, what it never sees, and what happens when a job leaves."""

import pytest

from poet_core.errors import ServiceError
from poet_service.jobs.records import Standing
from poet_service.jobs.states import SolveState


class TestIsolation:
    def test_another_tokens_job_does_not_exist(self, scene):
        job = scene.submit(token=1).job
        for token in (2, 3, 0):  # not even for its own tenant
            assert scene.store.job(job.id, token) is None
            assert scene.store.leave(job.id, token, discard=True) is None
            assert scene.store.jobs(token, limit=10, before=None) == []
        assert scene.store.job(job.id, 1) == job

    @pytest.mark.parametrize("job_id", ["", "0" * 32, "x" * 1000, "' OR 1=1 --", "é"])
    def test_an_unknown_id_is_none(self, scene, job_id):
        scene.submit()
        assert scene.store.job(job_id, 1) is None
        assert scene.store.leave(job_id, 1, discard=False) is None


class TestPages:
    def test_newest_first_page_by_page_while_others_come(self, scene):
        made = [scene.submit(b"%d" % number).job.id for number in range(5)]
        scene.submit(b"other", token=2)
        page = scene.store.jobs(1, limit=2, before=None)
        assert [job.id for job in page] == [made[4], made[3]]
        scene.submit(b"new")
        page = scene.store.jobs(1, limit=2, before=page[-1].id)
        assert [job.id for job in page] == [made[2], made[1]]
        page = scene.store.jobs(1, limit=2, before=page[-1].id)
        assert [job.id for job in page] == [made[0]]
        assert scene.store.jobs(1, limit=2, before=page[-1].id) == []

    def test_a_cursor_of_another_token_is_unknown(self, scene):
        cursor = scene.submit(token=2).job.id
        with pytest.raises(ServiceError) as caught:
            scene.store.jobs(1, limit=2, before=cursor)
        assert caught.value.code == "cursor_unknown"

    def test_the_order_does_not_follow_the_clock(self, scene, clock):
        first = scene.submit(b"1").job.id
        clock.now -= 3600
        second = scene.submit(b"2").job.id
        assert [job.id for job in scene.store.jobs(1, limit=9, before=None)] == [second, first]
        assert scene.store.queued(9) == [
            scene.store.job(first, 1).solve_id,
            scene.store.job(second, 1).solve_id,
        ]


class TestLeaving:
    def test_the_last_job_takes_a_queued_solve_with_it(self, scene, clock):
        first, second = scene.submit(token=1), scene.submit(token=2)
        clock.now += 5
        left = scene.store.leave(first.job.id, 1, discard=False)
        assert left.job.left_at == clock.now
        assert left.solves_to_stop == ()
        assert scene.state(first.solve.id) is SolveState.QUEUED
        left = scene.store.leave(second.job.id, 2, discard=False)
        assert left.solves_to_stop == ()  # no worker has it
        assert scene.state(first.solve.id) is SolveState.STOPPED
        assert scene.kinds(first.solve.id) == ["state", "done"]
        assert scene.store.claim(first.solve.id, "late") is None

    def test_the_last_job_stops_a_running_solve(self, scene):
        first, second = scene.submit(token=1), scene.submit(token=2)
        scene.store.claim(first.solve.id, "worker")
        assert scene.store.leave(first.job.id, 1, discard=False).solves_to_stop == ()
        assert not scene.store.solve(first.solve.id).stop_requested
        left = scene.store.leave(second.job.id, 2, discard=False)
        assert left.solves_to_stop == (first.solve.id,)
        assert scene.store.solve(first.solve.id).stop_requested
        assert scene.state(first.solve.id) is SolveState.RUNNING

    def test_what_was_best_then_is_kept_while_the_solve_goes_on(self, scene):
        first, second = scene.submit(token=1), scene.submit(token=2)
        solve = scene.store.claim(first.solve.id, "worker")
        scene.store.incumbent(solve.id, 1, b"early", 5.0, 1.0, 4.0, 0.5)
        left = scene.store.leave(first.job.id, 1, discard=False)
        scene.store.finish(solve.id, 1, b"late", 2.0, 2.0, 0.0, 3.0)
        kept = Standing(cost=5.0, bound=1.0, gap=4.0, elapsed_seconds=0.5, has_plan=True)
        assert left.job.standing == kept
        assert scene.store.job(first.job.id, 1).standing == kept
        assert scene.store.jobs(1, limit=1, before=None)[0].standing == kept
        assert scene.store.job_plan(first.job.id) == b"early"
        assert scene.store.job_plan(second.job.id) is None
        assert scene.store.plan(solve.id) == b"late"

    def test_leaving_twice_is_leaving_once(self, scene, clock):
        job = scene.running() and scene.store.jobs(1, limit=1, before=None)[0]
        first = scene.store.leave(job.id, 1, discard=False)
        clock.now += 5
        again = scene.store.leave(job.id, 1, discard=False)
        assert again.job == first.job
        assert (first.solves_to_stop, again.solves_to_stop) == ((job.solve_id,), ())

    def test_an_ended_job_stays_as_it_is(self, scene):
        job = scene.finished().job
        left = scene.store.leave(job.id, 1, discard=False)
        assert left.job == job
        assert left.solves_to_stop == ()
        assert scene.state(job.solve_id) is SolveState.FINISHED

    def test_a_frontier_leaves_each_of_its_solves(self, scene):
        shared = scene.submit(b"shared", token=2)
        frontier = scene.frontier(b"queued", b"running", b"shared", b"finished")
        queued, running, _, finished = (point.solve_id for point in frontier.job.points)
        scene.store.claim(running, "worker")
        scene.store.claim(finished, "worker")
        scene.store.finish(finished, 1, b"plan", 1.0, 1.0, 0.0, 1.0)
        left = scene.store.leave(frontier.job.id, 1, discard=False)
        assert left.job.left_at is not None
        assert left.solves_to_stop == (running,)
        assert scene.state(queued) is SolveState.STOPPED
        assert scene.state(shared.solve.id) is SolveState.QUEUED
        assert scene.state(finished) is SolveState.FINISHED


class TestDiscarding:
    def test_nothing_is_left_of_an_ended_job(self, scene):
        job = scene.finished(b"k", warm_start=b"warm").job
        left = scene.store.leave(job.id, 1, discard=True)
        assert left.job.discarded
        assert scene.store.job(job.id, 1) is None
        assert scene.store.leave(job.id, 1, discard=True) is None
        assert scene.store.solve(job.solve_id) is None
        assert scene.store.plan(job.solve_id) is None
        assert scene.store.warm_start(job.solve_id) is None
        assert scene.store.events(job.solve_id, 0, 10) == []
        with pytest.raises(ServiceError) as caught:
            scene.store.request(job.solve_id)
        assert caught.value.code == "solve_unknown"
        assert scene.store.stored_bytes() == 0
        assert scene.submit(b"k").created_solve

    def test_another_jobs_answer_stays(self, scene):
        first, second = scene.finished(token=1), scene.submit(token=2)
        scene.store.leave(first.job.id, 1, discard=True)
        assert scene.store.job(second.job.id, 2) == second.job
        assert scene.store.plan(second.solve.id) == b"plan"

    def test_a_running_solve_is_stopped_and_then_erased(self, scene):
        submitted = scene.submit()
        scene.store.claim(submitted.solve.id, "worker")
        left = scene.store.leave(submitted.job.id, 1, discard=True)
        assert left.solves_to_stop == (submitted.solve.id,)
        swept = scene.store.sweep(older_than_seconds=1e9, most_bytes=10**9)
        assert swept.solves == 0
        assert scene.store.stopped(submitted.solve.id, 1)
        swept = scene.store.sweep(older_than_seconds=1e9, most_bytes=10**9)
        assert swept.solves == 1
        assert scene.store.solve(submitted.solve.id) is None

    def test_a_queued_solve_never_begins(self, scene):
        submitted = scene.submit()
        assert scene.store.leave(submitted.job.id, 1, discard=True).solves_to_stop == ()
        assert scene.store.queued(10) == []

    def test_its_idempotency_key_is_free_again(self, scene):
        job = scene.submit(b"k", idempotency=("once", b"digest")).job
        scene.store.leave(job.id, 1, discard=True)
        assert not scene.submit(b"l", idempotency=("once", b"other")).replayed

    def test_a_left_job_can_still_be_discarded(self, scene):
        submitted = scene.submit()
        scene.store.claim(submitted.solve.id, "worker")
        scene.store.incumbent(submitted.solve.id, 1, b"early", 5.0, 1.0, 4.0, 0.5)
        scene.store.leave(submitted.job.id, 1, discard=False)
        assert scene.store.leave(submitted.job.id, 1, discard=True).solves_to_stop == ()
        assert scene.store.job_plan(submitted.job.id) is None
