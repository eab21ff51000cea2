"""What docs and README say of other ways to save memory is what is stored, and ours was exact."""

from __future__ import annotations

from pathlib import Path

from benchmarks.replay_methods import METHODS
from benchmarks.replay_models import SUBJECTS
from benchmarks.replay_report import RESULTS, Store, short_table, table

ROOT = RESULTS.parents[1]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_tables_are_the_stored_results() -> None:
    store = Store()
    assert table(store) == _text(RESULTS / "replay.md")
    assert table(store) in _text(ROOT / "docs" / "memory.md")
    assert short_table(store) in _text(ROOT / "README.md")


def test_every_method_was_measured_on_every_step_and_ours_had_eagers_bits() -> None:
    store = Store()
    assert all(store.has(model, method) for model in SUBJECTS for method in METHODS)
    assert all(row.ours is not None and row.ours.same_bits for row in store.rows)
