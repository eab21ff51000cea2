"""The operator's guide has the service's figures as they are stored, and they are whole."""

from __future__ import annotations

import pytest

from benchmarks import service, service_chaos
from benchmarks.service_figures import PAGE, RESULTS, missed, stored, table

TITLES = {
    "service": [title for title, _, _ in service.PARTS.values()],
    "service_chaos": [title for title, _ in service_chaos.PARTS.values()],
}


@pytest.mark.parametrize("book", TITLES)
def test_the_pages_table_is_the_stored_results(book: str) -> None:
    text = table(*stored(book))
    assert text == (RESULTS / f"{book}.md").read_text(encoding="utf-8")
    assert text in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("book", "least"), [("service", 20), ("service_chaos", 10)])
def test_every_part_was_measured_and_nothing_asked_was_missed(book: str, least: int) -> None:
    parts, _ = stored(book)
    assert [part.title for part in parts] == TITLES[book]
    assert missed(parts) == []
    asked = [figure for part in parts for figure in part.figures if figure.asked]
    assert len(asked) >= least
