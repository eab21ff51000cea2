"""`make demo`, end to end and small: service, plan, three training processes, the comparison."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_STEPS = 8


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo on the bundled digits, with SGD: the data need nothing that is not installed."""
    path = tmp_path_factory.mktemp("demo") / "report.json"
    environment = {key: value for key, value in os.environ.items() if key != "POET_DATA"}
    command = [sys.executable, "-m", "examples.demo", "--steps", str(_STEPS), "--json", str(path)]
    finished = subprocess.run(
        [*command, "--optimizer", "sgd", "--ram-percent", "55"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=280,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Measured peak" in finished.stdout
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_measured_peak_is_inside_a_budget_of_at_most_60_percent(report: dict[str, Any]) -> None:
    assert report["budget_bytes"] * 100 <= report["keep_everything_bytes"] * 60
    assert 0 < report["measured_peak_bytes"] <= report["budget_bytes"]
    assert report["measured_peak_bytes"] <= report["planned_peak_bytes"]


def test_unconstrained_run_really_needs_what_keep_everything_says(report: dict[str, Any]) -> None:
    unconstrained = report["runs"]["unconstrained"]["measured_peak_bytes"]
    assert 0.98 * report["keep_everything_bytes"] <= unconstrained
    assert unconstrained <= report["keep_everything_bytes"]


def test_bits_agree_across_the_three_processes(report: dict[str, Any]) -> None:
    assert report["identical_to_unconstrained"]
    assert report["identical_to_eager"]
    assert report["steps"] == _STEPS


def test_plan_pages_and_still_costs_at_least_keep_everything(report: dict[str, Any]) -> None:
    assert report["flash_bytes_written_per_step"] > 0
    assert report["planned_joules"] > report["keep_everything_joules"]
    assert report["planner"]["formulation"].startswith(("search", "greedy", "first-run relaxation"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--ram-percent", "61"], "expected 1 to 60"), (["--steps", "2"], "expected at least 3")],
)
def test_wrong_options_are_refused(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from examples.demo import main

    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err


def test_budget_below_the_floor_is_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from examples.demo import main

    assert main(["--ram-percent", "20", "--quiet", "--json", str(tmp_path / "none.json")]) == 1
    shown = capsys.readouterr().err
    assert "[ram_below_floor]" in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "none.json").exists()
