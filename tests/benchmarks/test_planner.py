"""The planner benchmark's bookkeeping: which seeds run, what is stored and resumed, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import planner
from benchmarks.planner_points import (
    PROTOTYPE,
    QUICK,
    greedy_limit_seconds,
    meets,
    proof_points,
    table_points,
)
from benchmarks.planner_report import markdown, summary
from benchmarks.planner_seeds import median_record, needless_seed, settled_by
from benchmarks.planner_store import Store, machine, planner_version

KEY = {"planner": "abc", "seconds": 10.0, "jobs": 2, "backend": "highs"}


def record(seed: int, cost: float, ending: str = "TIME", **more: Any) -> dict[str, Any]:
    """A finished job of the table, of an instance whose base cost is 100."""
    job = {"part": "table", "instance": "CM1", "budget": "80", "seed": seed}
    figures = {
        "cost": cost, "overhead_percent": cost - 100, "ram_percent": 80.0, "near_seconds": 0.5,
        "final_seconds": 1.5, "bound_percent": 0.1, "holds_for": "any_order", "bound_by": "a bound",
        "gap_percent": 0.01, "overhead_gap_percent": 5.0, "found_by": "search", "ops": 73,
        "wall_seconds": 10.0, "ending": ending,
    }  # fmt: skip
    return {"job": job, "job_seconds": 10.1, **figures, **more}


def test_the_points_are_the_table_and_the_forty_one_of_the_proof_target() -> None:
    assert len(table_points()) == 78
    assert len(set(proof_points())) == len(proof_points()) == 41
    assert set(QUICK) <= set(table_points())
    assert all(figure >= 0 for row in PROTOTYPE.values() for figure in row.values())


@pytest.mark.parametrize(
    ("overhead", "figure", "met"),
    [(0.5, 0.0, True), (0.51, 0.0, False), (1.02, 1.0, True), (1.03, 1.0, False), (33.4, 33, True)],
)
def test_the_rule_is_half_a_point_and_two_percent_above_half_a_percent(
    overhead: float, figure: float, met: bool
) -> None:
    assert meets(overhead, figure) is met


def test_greedys_target_goes_through_both_given_figures() -> None:
    assert greedy_limit_seconds(50) == 0.05
    assert greedy_limit_seconds(400) == pytest.approx(0.05)
    assert greedy_limit_seconds(1000) == pytest.approx(0.5)


def test_a_seed_is_needless_only_when_it_cannot_change_the_median() -> None:
    job = {"part": "table", "instance": "CM1", "budget": "80", "seed": 4}
    two = [record(0, 101.0), record(1, 101.0)]
    assert not needless_seed(two, job)
    assert not needless_seed([*two, record(2, 100.5)], job)
    assert needless_seed([*two, record(2, 100.5), record(3, 101.0)], job)
    assert not needless_seed([record(0, 101.0, "PROVEN_FOR_ORDER")], job)
    assert needless_seed([record(0, 101.0, "PROVEN")], job)
    assert not needless_seed([record(0, 101.0, "PROVEN")], {**job, "budget": "70"})


def test_the_median_of_a_point_is_what_five_seeds_would_have() -> None:
    five = [record(seed, cost) for seed, cost in enumerate((105.0, 101.0, 103.0, 104.0, 102.0))]
    assert median_record(five)["cost"] == 103.0  # type: ignore[index]
    equal = [record(0, 101.0), record(1, 109.0), record(2, 101.0), record(3, 101.0)]
    assert settled_by(equal) == "3 of 5 seeds cost the same"
    assert median_record(equal)["cost"] == 101.0  # type: ignore[index]
    failed = [record(0, 101.0), {"job": record(1, 0)["job"], "error": "not_found_in_time: none"}]
    assert median_record(failed)["error"]  # type: ignore[index]


def test_a_store_resumes_its_own_run_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    store = Store(path, KEY, resume=False)
    store.add(record(0, 101.0))
    with path.open("a") as file:
        file.write('{"key": {"planner": "ab')  # killed while writing
    again = Store(path, KEY, resume=True)
    again.add(record(1, 102.0))
    assert [one["cost"] for one in Store(path, KEY, resume=True).records] == [101.0, 102.0]
    assert again.find(record(1, 0)["job"]) is not None
    assert again.find(record(2, 0)["job"]) is None
    assert Store(path, {**KEY, "planner": "abd"}, resume=True).records == []
    assert Store(path, KEY, resume=False).records == []


def test_jobs_that_are_stored_do_not_run_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "lines.jsonl", KEY, resume=False)
    jobs = [store.add({"job": {"part": "no such part", "seed": s}})["job"] for s in range(3)]
    planner._run(jobs, store, 2, 1e9, 0.0)  # an unknown part would raise in the worker
    assert len(store.records) == 3


def test_the_planners_version_is_of_its_sources() -> None:
    assert planner_version() == planner_version()
    assert len(planner_version()) == 16


def test_results_are_written_and_drawn_again_from_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alternative = {
        "job": {"part": "alternative", "instance": "CM1", "alternative": "checkpointing"},
        "rows": [{"budget": "80", "ram_percent": 80.0, "overhead_percent": 3.04}],
    }
    proof = {**record(0, 100.2, "PROVEN", proven=True)}
    proof["job"] = {"part": "proof", "instance": "CM1", "budget": "80", "seed": 0}
    records = [record(0, 100.1361), record(1, 100.9), alternative, proof]
    found = summary(records, KEY, machine(), 2)
    planner._write(found, tmp_path, "planner")
    names = ("planner.json", "planner.md", "planner.svg")
    first = {name: (tmp_path / name).read_text() for name in names}
    assert planner.main(["--plot-only", "--results", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_text() for name in names} == first
    assert json.loads(first["planner.json"])["points"][0]["verdict"] == "misses"
    assert "| CM1 | 80 | 0.136 | 0.9 | 0.1361 |" in first["planner.md"]
    assert "| CM1 | 80 | 0.9 | 3.04 |" in first["planner.md"]
    assert "Proofs in the given order: 1 of 1" in first["planner.md"]
    drawn = ET.fromstring(first["planner.svg"])
    shown = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"CM1", "checkpointing", "FastSA"} <= set(shown)
    assert capsys.readouterr().out == ""
    assert markdown(found) == first["planner.md"]
