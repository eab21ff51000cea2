"""What docs and README say of steps under caps is what is stored, and nothing stored is amiss but
what is told there."""

from __future__ import annotations

from pathlib import Path

from benchmarks.caps_report import RESULTS, load_rows, short_table, table

ROOT = RESULTS.parents[1]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_tables_are_the_stored_results() -> None:
    rows = load_rows()
    assert table(rows) == _text(RESULTS / "caps.md")
    assert table(rows) in _text(ROOT / "docs" / "memory.md")
    assert short_table(rows) in _text(ROOT / "README.md")


def test_every_cap_of_every_step_has_eagers_bits_while_eager_is_killed() -> None:
    rows = load_rows()
    assert {row.case for row in rows} == {"bert", "resnet", "gpt2", "vit"}
    assert all(row.same_as_eager for row in rows)
    assert all(row.eager_killed for row in rows if row.cap_bytes is not None)
    assert all(
        row.group_bytes is not None and row.group_bytes <= row.cap_bytes
        for row in rows
        if row.cap_bytes is not None
    )
