"""The operator's guide has the service's figures as they are stored, and they are whole."""

from __future__ import annotations

from benchmarks.service import PARTS
from benchmarks.service_figures import PAGE, RESULTS, missed, stored, table

# Of twice BERT-base's size: its median is below, its slowest replies are not.
KNOWN = "Large graphs: a megabyte (2134 ops, 1.06 MB): accept, 99 %"


def test_the_pages_table_is_the_stored_results() -> None:
    text = table(*stored())
    assert text == (RESULTS / "service.md").read_text(encoding="utf-8")
    assert text in PAGE.read_text(encoding="utf-8")


def test_every_part_was_measured_and_nothing_asked_was_missed() -> None:
    parts, _ = stored()
    assert [part.title for part in parts] == [title for title, _, _ in PARTS.values()]
    assert all(told.startswith(KNOWN) for told in missed(parts)), missed(parts)
    asked = [figure for part in parts for figure in part.figures if figure.asked]
    assert len(asked) >= 20
