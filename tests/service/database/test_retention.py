"""Retention: what is old or too much goes, the oldest first, and never what is active."""

import itertools
from pathlib import Path

import pytest

from poet_service.database import retention
from poet_service.jobs.states import SolveState

DAY = 86_400.0
ROOM = 10**12


def _solves(store):
    return {state: n for state, n in store.counts().items() if n}


class TestAge:
    def test_only_what_is_older_goes(self, scene, clock):
        old = scene.finished(b"old")
        clock.now += DAY
        new = scene.finished(b"new")
        swept = scene.store.sweep(older_than_seconds=DAY / 2, most_bytes=ROOM)
        assert (swept.jobs, swept.solves) == (1, 1)
        assert swept.stored_bytes == scene.store.stored_bytes() > 0
        assert scene.store.job(old.job.id, 1) is None
        assert scene.store.solve(old.solve.id) is None
        assert scene.store.job(new.job.id, 1) == new.job
        assert scene.store.plan(new.solve.id) == b"plan"

    def test_an_answer_lives_as_long_as_somebody_asks_for_it(self, scene, clock):
        first = scene.finished(b"k")
        clock.now += DAY
        second = scene.submit(b"k")
        swept = scene.store.sweep(older_than_seconds=DAY / 2, most_bytes=ROOM)
        assert (swept.jobs, swept.solves) == (1, 0)
        assert scene.store.job(first.job.id, 1) is None
        assert scene.store.job(second.job.id, 1) == second.job
        assert scene.store.plan(second.solve.id) == b"plan"

    def test_a_solve_that_ended_lately_is_not_old(self, scene, clock):
        submitted = scene.submit()
        clock.now += DAY
        scene.store.claim(submitted.solve.id, "worker")
        scene.store.finish(submitted.solve.id, 1, b"plan", 1.0, 1.0, 0.0, 1.0)
        assert scene.store.sweep(older_than_seconds=DAY / 2, most_bytes=ROOM).jobs == 0

    def test_a_clock_that_jumped_back_erases_nothing_too_early(self, scene, clock):
        job = scene.finished().job
        clock.now -= 10 * DAY
        assert scene.store.sweep(older_than_seconds=0.0, most_bytes=ROOM).jobs == 0
        assert scene.store.job(job.id, 1) == job

    def test_more_than_one_transaction_takes(self, scene, clock, monkeypatch):
        monkeypatch.setattr(retention, "_JOBS_AT_ONCE", 3)
        for _ in range(10):
            scene.submit(b"k")
        solve = scene.store.find_solve("a", b"k")
        scene.store.claim(solve.id, "worker")
        scene.store.finish(solve.id, 1, b"plan", 1.0, 1.0, 0.0, 1.0)
        clock.now += DAY
        swept = scene.store.sweep(older_than_seconds=1.0, most_bytes=ROOM)
        assert (swept.jobs, swept.solves, swept.stored_bytes) == (10, 1, 0)


class TestActive:
    @pytest.fixture
    def active(self, scene):
        """Active jobs of each kind, and an old one on a solve that another waits for."""
        queued, running = scene.submit(b"queued"), scene.submit(b"running")
        scene.store.claim(running.solve.id, "worker")
        scene.store.incumbent(running.solve.id, 1, b"early", 1.0, 0.0, 1.0, 1.0)
        frontier = scene.frontier(b"queued", b"answered")
        scene.finished(b"answered")
        left = scene.submit(b"running", token=2)
        scene.store.leave(left.job.id, 2, discard=False)
        return [(queued.job, 1), (running.job, 1), (frontier.job, 1)]

    @pytest.mark.parametrize(
        ("older_than_seconds", "most_bytes"), [(0.0, ROOM), (10 * DAY, 0), (0.0, 0), (-DAY, -1)]
    )
    def test_active_ones_are_never_touched(
        self, scene, clock, active, older_than_seconds, most_bytes
    ):
        clock.now += DAY
        scene.store.sweep(older_than_seconds=older_than_seconds, most_bytes=most_bytes)
        for job, token in active:
            assert scene.store.job(job.id, token) == job
            for solve_id in job.solve_ids:
                assert scene.store.request(solve_id)
        assert _solves(scene.store)[SolveState.QUEUED] == 1
        assert _solves(scene.store)[SolveState.RUNNING] == 1
        # The frontier waits for one of its points, so the plan of the other stays too.
        assert _solves(scene.store)[SolveState.FINISHED] == 1


class TestBytes:
    def test_the_oldest_go_until_there_is_room(self, scene):
        made = [scene.finished(b"%d" % n, plan=b"x" * 100_000) for n in range(6)]
        whole = scene.store.stored_bytes()
        assert 600_000 < whole < 650_000
        swept = scene.store.sweep(older_than_seconds=DAY, most_bytes=whole - 150_000)
        assert (swept.jobs, swept.solves) == (2, 2)
        assert swept.stored_bytes == scene.store.stored_bytes() <= whole - 150_000
        left = [scene.store.job(one.job.id, 1) is not None for one in made]
        assert left == [False, False, True, True, True, True]

    def test_enough_room_erases_nothing(self, scene):
        scene.finished(plan=b"x" * 1000)
        stored = scene.store.stored_bytes()
        assert scene.store.sweep(older_than_seconds=DAY, most_bytes=stored).jobs == 0

    def test_a_plan_that_is_asked_for_again_is_young(self, scene):
        popular = scene.finished(b"popular", plan=b"x" * 100_000)
        other = scene.finished(b"other", plan=b"x" * 100_000)
        again = scene.submit(b"popular")
        scene.store.sweep(older_than_seconds=DAY, most_bytes=150_000)
        assert scene.store.solve(other.solve.id) is None
        assert scene.store.job(again.job.id, 1) == again.job
        assert scene.store.plan(popular.solve.id)

    def test_what_counts(self, scene):
        sizes = [scene.store.stored_bytes()]
        submitted = scene.submit(request=b"x" * 10_000, warm_start=b"x" * 20_000)
        sizes.append(scene.store.stored_bytes())
        solve = scene.store.claim(submitted.solve.id, "worker")
        scene.store.log(solve.id, 1, "x" * 30_000)
        sizes.append(scene.store.stored_bytes())
        scene.store.incumbent(solve.id, 1, b"x" * 40_000, 1.0, 0.0, 1.0, 1.0)
        sizes.append(scene.store.stored_bytes())
        scene.store.leave(submitted.job.id, 1, discard=False)
        sizes.append(scene.store.stored_bytes())
        grown = [after - before for before, after in itertools.pairwise(sizes)]
        for size, expected in zip(grown, [30_000, 30_000, 40_000, 40_000], strict=True):
            assert expected <= size < expected + 3_000

    def test_the_file_becomes_smaller(self, scene, database_url):
        if not database_url.startswith("sqlite"):
            pytest.skip("PostgreSQL gives space back by itself, when it wants to")
        path = database_url.removeprefix("sqlite:///")
        for number in range(20):
            scene.finished(b"%d" % number, plan=b"x" * 200_000)
        scene.store.sweep(older_than_seconds=DAY, most_bytes=0)
        scene.store._database.read(
            lambda connection: connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
        )
        assert Path(path).stat().st_size < 500_000


def test_an_empty_store_has_nothing_to_erase(store):
    swept = store.sweep(older_than_seconds=0.0, most_bytes=0)
    assert (swept.jobs, swept.solves, swept.stored_bytes) == (0, 0, 0)
