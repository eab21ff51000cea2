"""Chaos in the embedded service: nothing that dies loses or doubles anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from poet_service.database.store import Store
from tests.service.execution.chaos import run_chaos
from tests.service.execution.hosts import ODD_CHILD, REAL_CHILD


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("child", "kills"), [(ODD_CHILD, 200), (REAL_CHILD, 50)])
def test_no_death_loses_or_doubles_anything(
    child: str, kills: int, store: Store, tmp_path: Path
) -> None:
    report = run_chaos(store, tmp_path, child=child, kills=kills)
    assert report.kills.total() >= kills
    assert report.solves["finished"] > 0
    assert report.judged >= report.solves["finished"]
