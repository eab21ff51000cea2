"""What the mentee's rows rest on: labels of the first rows alone, and jobs that name their recipes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.projection_mentors import ALONE, AndOthers
from benchmarks.projection_parts import parts
from benchmarks.projection_place import Place
from benchmarks.projection_summary import cells, part_pairs
from projection_nets.data.examples import LabelledExamples


def examples(first: int, count: int) -> LabelledExamples:
    numbers = torch.arange(first, first + count)
    return LabelledExamples(inputs=(numbers[:, None],), labels=numbers % 10)


def test_a_batch_begins_with_labelled_rows_and_goes_on_without_labels() -> None:
    source = AndOthers(examples(0, 20), examples(100, 500), seed=3)
    assert len(source) == 20
    order = np.array([4, 0, 7])
    rows, labels = source.batch(order)
    assert rows[:3, 0].tolist() == [4, 0, 7]
    assert labels.tolist() == [4, 0, 7]
    assert len(rows) == 6
    assert all(100 <= row < 600 for row in rows[3:, 0].tolist())
    # a function of the order and the seed, so that a run that was killed sees the same again
    assert torch.equal(source.batch(order)[0], rows)
    assert not torch.equal(source.batch(order[::-1].copy())[0][3:], rows[3:])
    other_seed = AndOthers(examples(0, 20), examples(100, 500), seed=4)
    assert not torch.equal(other_seed.batch(order)[0][3:], rows[3:])
    assert sum(len(chunk[0]) for chunk in source.chunks(8)) == 20


def test_each_way_of_teaching_is_held_against_alone(tmp_path: Path) -> None:
    rows = [
        {"network": "n", "labels": 10, "row": name, "parameters": 1, "test": {"1": share}}
        for name, share in ((ALONE, 80.0), ("soft targets on all images", 85.0))
    ]
    record = {"job": {"part": "mentee-mnist", "seed": 0}, "rows": rows}
    (pair,) = part_pairs("mentee-mnist", cells([record]))
    assert (pair["against"], pair["mean"]) == (ALONE, 5.0)
    place = Place(folder=tmp_path, data_root=None, quiet=True)
    recipes = {part.name: part.recipe(place) for part in parts() if part.name.startswith("mentee")}
    assert len(set(recipes.values())) == len(recipes) == 2
