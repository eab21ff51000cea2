"""The measured section of docs/poet-experiments.md is the stored results, and so are their tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.poet_experiments_grid import Grid
from benchmarks.poet_experiments_points import HEADLINE_DEVICE, Scope
from benchmarks.poet_experiments_readme import (
    DOCUMENT,
    README,
    RESULTS,
    filled,
    section,
    short_section,
)
from benchmarks.poet_experiments_report import faults, markdown
from benchmarks.poet_experiments_store import read_results
from benchmarks.poet_experiments_tables import verdict


@pytest.mark.parametrize(("document", "shown"), [(DOCUMENT, section), (README, short_section)])
def test_the_measured_section_is_the_stored_results(
    document: Path, shown: Callable[[], str]
) -> None:
    text = document.read_text(encoding="utf-8")
    assert filled(text, shown()) == text


def test_the_tables_are_the_stored_results() -> None:
    if not RESULTS.is_file():
        assert "Not measured yet" in section()
        return
    about, facts, found = read_results(RESULTS)
    stored = RESULTS.with_suffix(".md").read_text(encoding="utf-8")
    assert markdown(about, facts, found) == stored


def test_nobody_is_cheaper_than_ours_and_every_target_is_met_or_the_floor() -> None:
    _about, facts, found = read_results(RESULTS)
    assert faults(facts, found) == []
    grid = Grid(facts, found)
    headline = [one for one in grid.whole() if one.device == HEADLINE_DEVICE]
    asked = [one for one in headline if one.scope is Scope.ACTIVATIONS]
    asked += [one for one in headline if one.scope is Scope.ADAM and "bert" in one.network]
    assert len(asked) == 16
    assert [one.title for one in asked if not verdict(grid, one).startswith("met")] == []
