"""Two at once: of threads, of stores as two services have them, of processes."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from poet_core.errors import ServiceError
from poet_service.database.engine import open_store
from poet_service.jobs.records import QueueLimits
from poet_service.jobs.states import SolveState
from tests.service.database.scenes import Scene

ROOT = Path(__file__).parents[3]
THREADS = 6


@pytest.fixture
def two(store, database_url, clock):
    """Two stores on one database, as two processes have them, each shared by threads."""
    other = open_store(database_url, clock=clock)
    yield [Scene(store), Scene(other)]
    other.close()


def _at_once(calls):
    """What the calls return or raise, begun together."""
    gate = threading.Barrier(len(calls))

    def begin(call):
        gate.wait()
        try:
            return call()
        except ServiceError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(begin, calls))


def test_one_of_many_gets_a_claim(two):
    for number in range(10):
        solve_id = two[0].submit(b"%d" % number).solve.id
        claims = _at_once(
            [
                lambda scene=two[n % 2], worker=f"w{n}": scene.store.claim(solve_id, worker)  # noqa: B023
                for n in range(THREADS)
            ]
        )
        (won,) = [claim for claim in claims if claim is not None]
        assert two[0].store.solve(solve_id) == won


def test_one_of_many_ends_a_solve(two):
    for number in range(10):
        solve = two[0].running(b"%d" % number)
        ends = _at_once(
            [
                lambda: two[0].store.finish(solve.id, 1, b"plan", 1.0, 1.0, 0.0, 1.0),  # noqa: B023
                lambda: two[1].store.fail(solve.id, 1, {"code": "odd"}),  # noqa: B023
                lambda: two[0].store.stopped(solve.id, 1),  # noqa: B023
                lambda: two[1].store.lost(solve.id, 1) is not None,  # noqa: B023
            ]
        )
        assert sorted(ends) == [False, False, False, True]
        assert len(two[0].kinds(solve.id)) == 3


def test_the_same_request_at_once_is_one_solve(two):
    for number in range(5):
        key = b"%d" % number
        made = _at_once([lambda scene=two[n % 2]: scene.submit(key) for n in range(THREADS)])  # noqa: B023
        assert len({submitted.solve.id for submitted in made}) == 1
        assert [submitted.created_solve for submitted in made].count(True) == 1
        assert len({submitted.job.id for submitted in made}) == THREADS


def test_the_same_idempotency_key_at_once_is_one_job(two):
    for number in range(5):
        key = b"%d" % number
        made = _at_once(
            [
                lambda scene=two[n % 2]: scene.submit(key, idempotency=(key.decode(), b"digest"))  # noqa: B023
                for n in range(THREADS)
            ]
        )
        assert len({submitted.job.id for submitted in made}) == 1
        assert [submitted.replayed for submitted in made].count(False) == 1


def test_a_queue_is_never_too_long(two):
    limits = QueueLimits(queue_depth=3, active_jobs_of_token=100)
    made = _at_once(
        [
            lambda scene=two[n % 2], key=b"%d" % n: scene.submit(key, limits=limits)
            for n in range(THREADS)
        ]
    )
    refused = [error.code for error in made if isinstance(error, ServiceError)]
    assert refused == ["queue_full"] * (THREADS - 3)
    assert two[0].store.counts()[SolveState.QUEUED] == 3


@pytest.mark.parametrize("discard", [False, True])
@pytest.mark.parametrize("claimed", [False, True])
def test_who_joins_while_the_last_one_leaves_gets_an_answer(two, claimed, discard):
    for number in range(10):
        key = b"%d" % number
        first = two[0].submit(key)
        if claimed:
            two[0].store.claim(first.solve.id, "worker")
        _, joined = _at_once(
            [
                lambda: two[0].store.leave(first.job.id, 1, discard=discard),  # noqa: B023
                lambda: two[1].submit(key, token=2),  # noqa: B023
            ]
        )
        solve = two[0].store.solve(joined.solve.id)
        assert solve.state in (SolveState.QUEUED, SolveState.RUNNING)
        assert not solve.stop_requested


def test_a_solve_is_never_erased_from_under_a_new_job(two):
    for number in range(10):
        key = b"%d" % number
        first = two[0].finished(key)
        _, _, joined = _at_once(
            [
                lambda: two[0].store.leave(first.job.id, 1, discard=True),  # noqa: B023
                lambda: two[0].store.sweep(older_than_seconds=1e9, most_bytes=10**9),
                lambda: two[1].submit(key, token=2),  # noqa: B023
            ]
        )
        assert two[0].store.solve(joined.solve.id) is not None
        assert two[0].store.request(joined.solve.id)


def _race(url, what):
    racers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.service.database.racer", url, what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for _ in range(2)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 2
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        got = [json.loads(racer.stdout.readline()) for racer in racers]
        assert [racer.wait(60) for racer in racers] == [0, 0]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            racer.stdin.close()
            racer.stdout.close()
    return got


def test_processes_share_out_the_queue(scene, database_url):
    made = [scene.submit(b"%d" % number).solve.id for number in range(40)]
    one, two = _race(database_url, "claim")
    assert sorted(one + two) == sorted(made)


def test_two_processes_make_one_database(tmp_path):
    one, two = _race(f"sqlite:///{tmp_path}/new.db", "open")
    assert one == two


@pytest.mark.slow
def test_two_processes_make_one_postgresql_schema(postgres_server):
    one, two = _race(postgres_server.make_database(), "open")
    assert one == two
