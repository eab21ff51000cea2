"""Workers and an API process as an operator starts them: leaving, stopping, freezing."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from poet_service.database.engine import open_store
from poet_service.jobs.records import EventKind
from tests.service.distributed.cluster import Client, Cluster, Slot, cluster, wait_until
from tests.service.distributed.problems import request_body

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

# On a machine that is busy with other things a worker is slow, which should not be taken for silence.
NEVER_LOST_SECONDS, LOST_SECONDS = 600.0, 15.0


class Scene:
    """One API process, and a job on the only worker."""

    def __init__(self, made: Cluster, wall_seconds: float) -> None:
        self.cluster = made
        self.client = Client(made, random.Random(3))
        body = request_body(0, wall_seconds=wall_seconds)
        self.job_id = self.client.ask("POST", "/v1/plans", json=body)["id"]
        wait_until(lambda: self.view()["plan"] is not None, self.view)
        assert self.view()["state"] == "running"

    @property
    def worker(self) -> Slot:
        return self.cluster.of_kind("worker")[0]

    def view(self) -> dict[str, Any]:
        return self.client.ask("GET", f"/v1/plans/{self.job_id}")

    def another_worker(self) -> None:
        self.cluster.start(self.cluster.add_worker())

    def until_state(self, state: str, attempt: int) -> None:
        wait_until(
            lambda: (self.view()["state"], self.view()["attempt"]) == (state, attempt),
            lambda: (self.view(), self.cluster.log()),
        )


def test_the_last_client_that_leaves_stops_the_solve_and_keeps_its_plan(
    postgres_url: str, tmp_path: Path
) -> None:
    with cluster(
        tmp_path, postgres_url, workers=1, apis=1, lost_seconds=NEVER_LOST_SECONDS
    ) as made:
        scene = Scene(made, wall_seconds=500.0)
        left = time.monotonic()
        scene.client.ask("DELETE", f"/v1/plans/{scene.job_id}")
        assert scene.view()["state"] == "stopped"
        assert scene.view()["plan"] is not None
        # The worker is free again, for a job that could not wait for the first.
        body = request_body(1, wall_seconds=0.3)
        after = scene.client.ask("POST", "/v1/plans", json=body)["id"]
        wait_until(
            lambda: scene.client.ask("GET", f"/v1/plans/{after}")["state"] == "finished", made.log
        )
        assert time.monotonic() - left < 250


def test_a_worker_told_to_end_leaves_its_solve_to_another(
    postgres_url: str, tmp_path: Path
) -> None:
    with cluster(
        tmp_path, postgres_url, workers=1, apis=1, lost_seconds=NEVER_LOST_SECONDS
    ) as made:
        scene = Scene(made, wall_seconds=500.0)
        best = scene.view()["cost"]
        process = scene.worker.process
        assert process is not None
        process.terminate()
        assert process.wait(120) == 0
        scene.worker.process = None
        assert scene.view()["state"] == "queued"
        scene.another_worker()
        scene.until_state("running", 2)
        assert scene.view()["cost"] <= best
        scene.client.ask("DELETE", f"/v1/plans/{scene.job_id}")


def test_a_frozen_worker_that_wakes_up_finds_its_solve_taken_and_writes_nothing(
    postgres_url: str, tmp_path: Path
) -> None:
    with cluster(tmp_path, postgres_url, workers=1, apis=1, lost_seconds=LOST_SECONDS) as made:
        scene = Scene(made, wall_seconds=40.0)
        frozen = scene.worker.process
        assert frozen is not None
        frozen.send_signal(signal.SIGSTOP)
        scene.another_worker()
        scene.until_state("running", 2)
        frozen.send_signal(signal.SIGCONT)
        store = open_store(postgres_url)
        try:
            job = store.job(scene.job_id, 0)
            assert job is not None
            assert job.solve_id is not None
            wait_until(lambda: scene.view()["state"] == "finished", scene.view)
            events = store.events(job.solve_id, 0, 10_000)
            assert [event.kind for event in events].count(EventKind.DONE) == 1
            assert events[-1].data["attempt"] == 2
            said = [event.data for event in events if event.kind is EventKind.STATE]
            assert [data["state"] for data in said] == ["queued", "running", "queued", "running"]
        finally:
            store.close()
        # It goes on working: it lost a solve, not itself.
        assert frozen.poll() is None
        assert made.end() == [0, 0, 0], made.log()
        wait_until(lambda: made.processes() == [], made.processes)
