"""Kill everything that can be killed, at random moments, and then count.

Three workers, two API processes, one PostgreSQL. While problems are posted to both APIs, a worker,
something under a worker, an API process (SIGKILL) or PostgreSQL (immediate restart: as after a
crash) goes down, again and again. Every job must end once, every finished plan must pass the judge,
and nothing may be left behind.
"""

import collections
import random
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from poet_core.documents import canonical_json, parse_json
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import request_from_document
from poet_core.verify import verify
from poet_service.database.engine import open_store
from poet_service.database.store import Store
from poet_service.jobs.records import EventKind
from poet_service.jobs.states import MOST_ATTEMPTS, SolveState
from tests.service.distributed.cluster import Client, Cluster, cluster, wait_until
from tests.service.distributed.problems import request_body
from tests.service.postgres import PostgresServer

pytestmark = pytest.mark.slow

WORKERS, APIS = 3, 2
WAITING = 6  # jobs under way at any time
# How a solve may fail after its processes were killed; anything else is a fault of ours.
HONEST = frozenset({"worker_lost", "solver_crashed"})
# What goes down in ten kills, shuffled.
HAND = ["worker"] * 3 + ["child"] * 4 + ["api"] * 2 + ["database"]


class Chaos:
    """Posts, kills, remembers."""

    def __init__(self, made: Cluster, server: PostgresServer, seed: int) -> None:
        self.cluster, self.server = made, server
        self.dice = random.Random(seed)
        self.client = Client(made, self.dice)
        self.bodies: dict[str, dict[str, Any]] = {}
        self.active: set[str] = set()
        self.kills: collections.Counter[str] = collections.Counter()
        self.hand: list[str] = []

    def top_up(self) -> None:
        """Keep some jobs under way."""
        for job_id in list(self.active):
            view = self.client.ask("GET", f"/v1/plans/{job_id}")
            if SolveState(view["state"]).ended:
                self.active.remove(job_id)
        while len(self.active) < WAITING:
            number = len(self.bodies)
            body = request_body(number, wall_seconds=self.dice.choice((0.3, 0.6, 1.2)))
            headers = {"Idempotency-Key": f"chaos-{number}-{secrets.token_hex(4)}"}
            job_id = self.client.ask("POST", "/v1/plans", json=body, headers=headers)["id"]
            assert job_id not in self.bodies
            self.bodies[job_id] = body
            self.active.add(job_id)

    def kill(self) -> None:
        if not self.hand:
            self.hand = self.dice.sample(HAND, len(HAND))
        what = self.hand[-1]
        if what == "database":
            self.server.restart(immediate=True)
        elif what == "child":
            if not self.cluster.kill_child(self.dice):
                return
        else:
            kind = {"worker": "worker", "api": "serve"}[what]
            self.cluster.kill(self.dice.choice(self.cluster.of_kind(kind)))
        self.kills[self.hand.pop()] += 1


@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        pytest.param(20, 1, marks=pytest.mark.timeout(1800)),
        pytest.param(200, 2, marks=pytest.mark.timeout(7200)),
    ],
)
def test_whatever_is_killed_every_job_ends_once_and_nothing_is_left(
    postgres_server: PostgresServer, tmp_path: Path, kills: int, seed: int
) -> None:
    url = postgres_server.make_database()
    with cluster(tmp_path, url, workers=WORKERS, apis=APIS) as made:
        chaos = Chaos(made, postgres_server, seed)
        while chaos.kills.total() < kills:
            chaos.top_up()
            time.sleep(chaos.dice.uniform(0.0, 1.0))
            chaos.kill()
        store = open_store(url)
        try:
            wait_until(lambda: counts(store)[True] == 0, lambda: (counts(store), made.log()))
            check_jobs(chaos, store)
            check_queue_is_empty(store, made)
            check_end(made)
        finally:
            store.close()
        assert chaos.kills == collections.Counter(HAND * (kills // len(HAND)))


def counts(store: Store) -> dict[bool, int]:
    """Solves that have not ended (True) and that have (False)."""
    found: dict[bool, int] = {True: 0, False: 0}
    for state, number in store.counts().items():
        found[not SolveState(state).ended] += number
    return found


def check_jobs(chaos: Chaos, store: Store) -> None:
    """Each job that was accepted is there, once, and has ended once, honestly."""
    listed = [job.id for job in store.jobs(0, limit=10_000, before=None)]
    assert sorted(listed) == sorted(chaos.bodies)
    states: collections.Counter[str] = collections.Counter()
    for job_id, body in chaos.bodies.items():
        views = [chaos.client.ask("GET", f"/v1/plans/{job_id}") for _ in range(2)]
        assert views[0] == views[1]
        view = views[0]
        states[view["state"]] += 1
        job = store.job(job_id, 0)
        assert job is not None
        assert job.solve_id is not None
        check_history(store, job.solve_id)
        if view["state"] == SolveState.FINISHED:
            request = request_from_document(parse_json(canonical_json(body)))
            plan = plan_from_document(parse_json(canonical_json(view["plan"])))
            verify(request.graph, plan)
            assert plan.budget.ram_bytes == body["budget"]["ram_bytes"]
        else:
            assert view["state"] == SolveState.FAILED, view
            assert view["error"]["code"] in HONEST, view
    assert states["finished"] > len(chaos.bodies) / 2, states


def check_history(store: Store, solve_id: str) -> None:
    """One end; attempts that count up, each claimed once; requeued once at most."""
    events = store.events(solve_id, 0, 10_000)
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert [event.kind for event in events].count(EventKind.DONE) == 1
    assert events[-1].kind is EventKind.DONE
    said = [event.data for event in events if event.kind is EventKind.STATE]
    claimed = [data["attempt"] for data in said if data["state"] == SolveState.RUNNING]
    again = [data["reason"] for data in said if "reason" in data]
    assert again.count("worker_lost") <= MOST_ATTEMPTS - 1
    assert len(claimed) <= len(again) + 1
    assert claimed == sorted(set(claimed))


def check_queue_is_empty(store: Store, made: Cluster) -> None:
    """procrastinate's jobs went with the solves."""
    import psycopg

    def jobs() -> int:
        with psycopg.connect(made.url) as connection:
            row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
        assert row is not None
        return int(row[0])

    wait_until(lambda: jobs() == 0, lambda: (jobs(), made.log()))


def check_end(made: Cluster) -> None:
    """Told to end, every process does; no process and no file remains."""
    for slot in made.slots:
        # Whoever was started last has swept what was killed before it.
        assert slot.process is not None
        wait_until(lambda slot=slot: made.is_up(slot), made.log)
    assert made.end() == [0] * (WORKERS + APIS), made.log()
    wait_until(lambda: made.processes() == [], made.processes)
    left = list(made.temporary.rglob("*"))
    for slot in made.slots:
        left += (slot.folder / "state").rglob("solve-*")
        left += (slot.folder / "state").rglob("process-*")
    assert left == []
