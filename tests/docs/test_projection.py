"""The README's rows of projection networks are the stored results, and Table 1 was run on three seeds."""

from __future__ import annotations

from benchmarks.projection_readme import README, RESULTS, short_table, stored
from benchmarks.projection_recipes import PAPER_TABLE, TRAINER_FIGURE
from benchmarks.projection_summary import find
from benchmarks.projection_tables import markdown


def test_the_tables_are_the_stored_results() -> None:
    found = stored()
    assert markdown(found) == (RESULTS / "projection.md").read_text(encoding="utf-8")
    assert short_table(found) in README.read_text(encoding="utf-8")


def test_table_1_has_the_papers_parameters_and_its_first_precision_on_three_seeds() -> None:
    cells = stored()["parts"]["table-mnist"]
    trainer = find(cells, row="trainer")
    assert trainer is not None
    assert trainer["test"]["1"][0] >= TRAINER_FIGURE
    for size, paper in PAPER_TABLE.items():
        cell = find(cells, row=size)
        assert cell is not None
        assert len(cell["by_seed"]) >= 3
        assert cell["parameters"] == paper.parameters
        assert round(cell["test"]["1"][0], 1) >= paper.precision[0]
