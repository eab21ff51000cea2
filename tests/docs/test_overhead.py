"""docs/runtime.md has the overhead's table as it is stored, and the results have what it is for."""

from __future__ import annotations

from benchmarks import overhead
from benchmarks.overhead_child import CASES


def test_the_pages_table_is_the_stored_results() -> None:
    rows = overhead.stored()
    assert overhead.table(rows) == (overhead.RESULTS / "overhead.md").read_text(encoding="utf-8")
    assert overhead.table(rows) in overhead.PAGE.read_text(encoding="utf-8")


def test_the_stored_results_are_whole() -> None:
    rows = overhead.stored()
    assert {(row.case, row.allocator) for row in rows} == {
        (name, allocator) for name in CASES for allocator in ("libc", "arena")
    }
    assert all(row.same_losses for row in rows)
