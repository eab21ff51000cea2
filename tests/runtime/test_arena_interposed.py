"""The arena in a whole process: torch's tensors are in it, everything else works, no bit differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from poet_runtime.memory.arena import arena_environment
from tests.packaging.outside import REPOSITORY
from tests.runtime.native_arena import arena_library


def report_of(environment: dict[str, str]) -> Any:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.runtime.arena_child"],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def reports() -> tuple[Any, Any]:
    """With and without."""
    path = os.pathsep.join(str(REPOSITORY / folder) for folder in (".", "solvers"))
    plain = os.environ | {"PYTHONPATH": path}
    return report_of(arena_environment(plain, library=arena_library())), report_of(plain)


def test_every_bit_is_the_same(reports: tuple[Any, Any]) -> None:
    inside, outside = reports
    assert outside["statistics"] is None
    for what in ("bits", "numpy", "threads", "strings", "child"):
        assert inside[what] == outside[what], what
    assert inside["strings"] == [500, 500]
    assert inside["child"] == 0


def test_tensors_are_in_the_arena(reports: tuple[Any, Any]) -> None:
    statistics, tensor = reports[0]["statistics"], reports[0]["tensor"]
    assert statistics["blocks"] > 0
    # Four threads made 40 tensors each of 50 000 floats and more.
    assert statistics["peak_in_use_bytes"] >= 160 * 50_000 * 4
    assert tensor == {"peak": 12_000_000, "tag": 6}


def test_plan_arena_and_profiler_agree(reports: tuple[Any, Any]) -> None:
    step = reports[0]["step"]
    # 64 bytes a storage are the plan's rounding; the generator's state is 5056 bytes.
    assert abs(step["arena"] - step["planned"]) < 8192
    assert abs(step["arena"] - step["profiler"]) < 8192
    assert step["planned"] > 400_000
    assert step["excesses"] == 0
