"""Kill everything that can be killed, at random moments and around every transition; then count."""

from pathlib import Path

import pytest

from tests.service.distributed.chaos_run import run_chaos
from tests.service.postgres import PostgresServer

pytestmark = pytest.mark.slow


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
    report = run_chaos(postgres_server, tmp_path, kills=kills, seed=seed)
    assert report.kills.total() >= kills
    assert report.solves["finished"] > report.solves.total() / 3, report
    assert report.judged >= report.solves["finished"]
