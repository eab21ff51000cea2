"""The measured section of docs/poet-experiments.md is the stored results, and so are their tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.poet_experiments_readme import (
    DOCUMENT,
    README,
    RESULTS,
    filled,
    section,
    short_section,
)
from benchmarks.poet_experiments_report import markdown
from benchmarks.poet_experiments_store import read_results


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
