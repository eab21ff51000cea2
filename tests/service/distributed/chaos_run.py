"""A run of chaos (chaos.py) and what must hold after it.

Every job ended once and honestly, every finished plan passes the judge, and nothing is left behind:
no process, no file, no job in the queue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from poet_core.documents import canonical_json, parse_json
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import request_from_document
from poet_core.verify import verify
from poet_service.database.engine import open_store
from poet_service.database.store import Store
from poet_service.jobs.records import EventKind
from poet_service.jobs.states import MOST_ATTEMPTS, SolveState
from tests.service.chaos_report import ChaosReport
from tests.service.distributed.chaos import Chaos
from tests.service.distributed.cluster import Cluster, cluster, wait_until
from tests.service.postgres import PostgresServer

WORKERS, APIS = 3, 2
# How a solve may fail after its processes were killed; anything else is a fault of ours.
HONEST = frozenset({"worker_lost", "solver_crashed"})
# So short that a worker that is told to end has to give back what it solves.
GRACE_SECONDS = 0.2


def run_chaos(server: PostgresServer, folder: Path, *, kills: int, seed: int) -> ChaosReport:
    """Half of the kills by hand, half at moments; then the checks, which raise AssertionError."""
    url = server.make_database()
    with cluster(
        folder,
        url,
        workers=WORKERS,
        apis=APIS,
        module="tests.service.distributed.armed",
        grace_seconds=GRACE_SECONDS,
    ) as made:
        chaos = Chaos(made, server, seed)
        with chaos.orchestrated():
            while chaos.by_hand < kills // 2 or chaos.at_moments < kills - kills // 2:
                chaos.ask()
                chaos.pause()
                if chaos.by_hand < kills // 2:
                    chaos.strike()
        store = open_store(url)
        try:
            wait_until(lambda: counts(store)[True] == 0, lambda: (counts(store), made.log()))
            check_jobs(chaos, store)
            check_queue_is_empty(made)
            check_end(made, chaos.report)
        finally:
            store.close()
    chaos.report.end()
    return chaos.report


def counts(store: Store) -> dict[bool, int]:
    """Solves that have not ended (True) and that have (False)."""
    found: dict[bool, int] = {True: 0, False: 0}
    for state, number in store.counts().items():
        found[not SolveState(state).ended] += number
    return found


def check_jobs(chaos: Chaos, store: Store) -> None:
    """Each job that was accepted is there, once, and has ended once, honestly; none else is."""
    listed = [job.id for job in store.jobs(0, limit=10_000, before=None)]
    assert sorted(listed) == sorted(chaos.bodies)
    chaos.report.asked = len(chaos.bodies)
    for job_id, body in chaos.bodies.items():
        views = [chaos.client.ask("GET", f"/v1/plans/{job_id}") for _ in range(2)]
        assert views[0] == views[1]
        view = views[0]
        job = store.job(job_id, 0)
        assert job is not None
        assert job.solve_id is not None
        check_history(chaos.report, store, job.solve_id)
        chaos.report.solves[view["state"]] += 1
        if view["state"] == SolveState.FAILED:
            assert view["error"]["code"] in HONEST, view
            chaos.report.errors[view["error"]["code"]] += 1
        else:
            assert view["state"] == SolveState.FINISHED or job_id in chaos.left, view
        if view["state"] == SolveState.FINISHED or view["plan"] is not None:
            check_plan(view["plan"], body)
            chaos.report.judged += 1


def check_plan(document: dict[str, Any], body: dict[str, Any]) -> None:
    """The judge accepts it, for what was asked."""
    request = request_from_document(parse_json(canonical_json(body)))
    plan = plan_from_document(parse_json(canonical_json(document)))
    verify(request.graph, plan)
    assert plan.budget.ram_bytes == body["budget"]["ram_bytes"]


def check_history(report: ChaosReport, store: Store, solve_id: str) -> None:
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
    report.losses += again.count("worker_lost")


def check_queue_is_empty(made: Cluster) -> None:
    """procrastinate's jobs went with the solves."""

    def jobs() -> int:
        with psycopg.connect(made.url) as connection:
            row = connection.execute("SELECT count(*) FROM procrastinate_jobs").fetchone()
        assert row is not None
        return int(row[0])

    wait_until(lambda: jobs() == 0, lambda: (jobs(), made.log()))


def check_end(made: Cluster, report: ChaosReport) -> None:
    """Told to end, every process does; no process and no file remains."""
    # All are up: whoever was started last has swept what was killed before it.
    assert made.end() == [0] * (WORKERS + APIS), made.log()
    wait_until(lambda: made.processes() == [], made.processes)
    left = [*made.temporary.rglob("*")]
    for slot in made.slots:
        left += (slot.folder / "state").rglob("solve-*")
        left += (slot.folder / "state").rglob("process-*")
    assert left == []
    report.left_over = len(left) + len(made.processes())
