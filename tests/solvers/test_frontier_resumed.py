"""A frontier that was stopped goes on from its file, and believes nothing in it that it cannot."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from poet_core.errors import UsageError
from poet_core.plan import Problem
from poet_solvers.frontier import Frontier, frontier
from poet_solvers.frontier_points import default_budgets
from tests.solvers.frontier_cases import MOVES, QUICK, chain, checked, figures, step


@pytest.fixture(scope="module")
def stored(tmp_path_factory) -> tuple[Problem, tuple[int, ...], bytes, Frontier]:
    problem = step()
    budgets = default_budgets(problem, 4)
    path = tmp_path_factory.mktemp("front") / "front.jsonl"
    found = frontier(problem, ram_bytes=budgets, limits=MOVES, store=path)
    return problem, budgets, path.read_bytes(), found


@pytest.fixture
def finished(tmp_path, stored):
    """A problem, its budgets, the store of a frontier (a file of the test's own), that frontier."""
    problem, budgets, lines, found = stored
    path = tmp_path / "front.jsonl"
    path.write_bytes(lines)
    return problem, budgets, path, found


def resumed(problem: Problem, budgets: tuple[int, ...], path, **arguments) -> Frontier:
    arguments = {"limits": MOVES} | arguments
    return checked(frontier(problem, ram_bytes=budgets, store=path, resume=True, **arguments))


def test_a_restart_plans_nothing_that_is_finished(finished, monkeypatch) -> None:
    problem, budgets, path, first = finished
    monkeypatch.setattr("poet_solvers.frontier.solve_point", None)
    again = resumed(problem, budgets, path)
    assert figures(again) == figures(first)
    assert all(point.resumed for point in again.points)
    assert again.warnings == ()


def test_a_line_cut_short_is_skipped_and_its_point_planned_again(finished) -> None:
    problem, budgets, path, first = finished
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 100])
    again = resumed(problem, budgets, path)
    assert figures(again) == figures(first)
    assert [point.resumed for point in again.points].count(False) == 1
    assert len(again.warnings) == 1
    assert f"Line {len(budgets)}" in again.warnings[0]
    once_more = resumed(problem, budgets, path)
    assert all(point.resumed for point in once_more.points)


def test_foreign_lines_are_skipped(finished) -> None:
    problem, budgets, path, _ = finished
    lines = path.read_bytes().splitlines(keepends=True)
    changed = json.loads(lines[-1])
    changed["plan"]["instructions"] = changed["plan"]["instructions"][1:]
    path.write_bytes(
        b'{"a": 1}\n\n[]\nhello\n\xff\xfe\n' + b"[" * 5000 + b"\n" + b"".join(lines[:-1])
        + json.dumps(changed).encode() + b"\n"
    )  # fmt: skip
    again = resumed(problem, budgets, path)
    assert len(again.warnings) == 6
    assert [point.resumed for point in again.points].count(False) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"limits": replace(MOVES, seed=1)},
        {"limits": replace(MOVES, wall_seconds=1000.0)},
        {"backend": "highs"},
    ],
)
def test_points_of_another_seed_backend_or_shorter_time_are_planned_again(finished, other) -> None:
    problem, budgets, path, _ = finished
    settled = [json.loads(line)["settled"] for line in path.read_bytes().splitlines()]
    again = resumed(problem, budgets[:3], path, **other)
    if "wall_seconds=1000" in repr(other):
        assert [p.resumed for p in again.points].count(True) == sum(settled[:3])
    else:
        assert not any(point.resumed for point in again.points)
        assert "another problem, planner or seed" in again.warnings[0]


def test_another_problem_has_the_file_too(finished) -> None:
    problem, budgets, path, _ = finished
    timed = replace(problem, budget=replace(problem.budget, step_seconds=1e9))
    again = resumed(timed, budgets[:1], path)
    assert not again.points[0].resumed
    assert all(point.resumed for point in resumed(problem, budgets, path).points)


def test_without_resume_the_file_begins_anew(finished) -> None:
    problem, budgets, path, _ = finished
    frontier(problem, ram_bytes=budgets[:1], limits=QUICK, store=path)
    assert len(path.read_bytes().splitlines()) == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_store_that_cannot_be_written_is_refused(tmp_path, resume) -> None:
    with pytest.raises(UsageError) as refused:
        frontier(chain(9), limits=QUICK, store=tmp_path / "no" / "x", resume=resume)
    assert refused.value.code == "file_unwritable"
    with pytest.raises(UsageError) as refused:
        frontier(chain(9), limits=QUICK, store=tmp_path, resume=resume)
    assert refused.value.code in ("file_unwritable", "file_unreadable")
