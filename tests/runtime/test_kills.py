"""SIGKILL anywhere in paging, update and checkpoint; then resume: the same bits as undisturbed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.kill_worker import DATA
from tests.runtime.step_parts import Outcome, eager, norm_and_dropout

REPOSITORY = Path(__file__).resolve().parents[2]


def kills(folder: Path, seed: int, count: int, *more: str) -> tuple[dict[str, Any], list[Any]]:
    """The worker's lines: the undisturbed run, then one for each kill."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.runtime.kill_worker", str(folder), str(seed), str(count), *more],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, *others = map(json.loads, done.stdout.splitlines())
    return first, others


def check(folder: Path, seed: int, count: int) -> list[Any]:
    undisturbed, found = kills(folder, seed, count)
    bits = hashlib.sha256()
    state = eager(norm_and_dropout, DATA)
    bits.update(repr(Outcome((), state.state, state.generator)).encode())
    assert undisturbed["expected"] == bits.hexdigest()
    assert len(found) == count
    for kill in found:
        # By the clock a run may just have ended; a kill at a call always comes.
        assert kill["killed"] or kill["kind"][0] == "clock", kill
        assert kill["found"] == undisturbed["expected"], kill
    return found


def test_killed_at_10_points_and_resumed(tmp_path: Path) -> None:
    found = check(tmp_path, seed=1, count=10)
    places = {tuple(kill["kind"]) for kill in found}
    assert {("paging", "write"), ("paging", "read"), ("compute", "update")} <= places
    assert {("checkpoint", "write"), ("checkpoint", "sync"), ("clock", "")} <= places


def test_one_run_killed_again_and_again(tmp_path: Path) -> None:
    undisturbed, found = kills(tmp_path, 5, 6, "chain")
    *lives, end = found
    assert sum(life["killed"] for life in lives) >= 3
    assert end["found"] == undisturbed["expected"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [10, 11])
def test_killed_at_50_points_and_resumed(tmp_path: Path, seed: int) -> None:
    check(tmp_path, seed, 50)


@pytest.mark.slow
def test_one_run_killed_40_times(tmp_path: Path) -> None:
    undisturbed, found = kills(tmp_path, 6, 40, "chain")
    assert found[-1]["found"] == undisturbed["expected"]
