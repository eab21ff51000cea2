"""Every part of the projection benchmark runs on tiny data and gives the rows that the report reads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.projection_parts import Part, parts
from benchmarks.projection_place import Place, small_place
from benchmarks.projection_summary import find, summary
from benchmarks.projection_tables import markdown

LEAST_ROWS = {
    "table": 15, "stretch": 8, "coupled": 2, "bits": 12, "search": 21, "few": 14, "layers": 4, "baselines": 10,
    "quantized": 18, "c-code": 1, "ram": 1, "intents": 45, "mentee": 6, "graph": 16,
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One folder for all parts, so that the joint run is trained once."""
    return small_place(tmp_path_factory.mktemp("projection"), quiet=True)


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def is_copy(part: Part) -> bool:
    """Whether another part runs the same code on the same tiny data."""
    return part.data in ("fashion-mnist", "banking77", "snips")


@pytest.mark.parametrize("part", [p for p in parts() if not is_copy(p)], ids=lambda p: p.name)
def test_a_part_gives_its_rows_and_they_are_shown(part: Part, place: Place) -> None:
    # with states, as in a run: two trainings of a part under one label would clash
    rows = part.run(replace(place, states=place.folder / f"states-{part.name}"), part.data, 0)
    kind = next(kind for kind in LEAST_ROWS if part.name.startswith(kind))
    assert len(rows) >= LEAST_ROWS[kind]
    for row in rows:
        for shares in (row[name] for name in ("test", "validation") if name in row):
            assert all(0 <= share <= 100 for share in shares.values())
    record = {
        "job": {"part": part.name, "data": part.data, "seed": 0, "recipe": part.recipe(place)},
        "job_seconds": 1.0, "sources": "abc", "rows": rows,
    }  # fmt: skip
    machine = {"threads": 1, "processor": "a chip", "python": "3.11", "torch": "2.13"}
    found = summary([record], [], machine, steps=place.steps, small=True)
    assert len(found["parts"][part.name]) == len(rows)  # no two rows are taken for one
    text = markdown(found)
    shown = "LSTM trainer" if kind == "intents" else rows[0]["row"]
    assert str(shown) in text


def test_what_only_a_device_can_say(place: Place) -> None:
    by_name = {part.name: part for part in parts()}
    (ram,) = by_name["ram-mnist"].run(place, "mnist", 1)
    assert ram["same_as_eager"]
    assert ram["same_as_kept"]
    assert ram["planned_peak_bytes"] <= ram["budget_bytes"] < ram["kept_bytes"]
    (code,) = by_name["c-code-mnist"].run(place, "mnist", 0)
    if "skipped" not in code:
        assert code["answers_as_python"]


def test_sizes_are_of_whole_files(place: Place) -> None:
    part = next(part for part in parts() if part.name == "quantized-mnist")
    rows = [{**row, "by_seed": {}} for row in part.run(place, "mnist", 0)]
    sizes = {
        name: find(rows, network="60,12", row=name)["bytes"]  # type: ignore[index]
        for name in ("float32", "int8 after training", "int4 after training", "16 shared values")
    }
    assert 4 * 7210 < sizes["float32"] < 4 * 7210 + 600
    assert 7210 < sizes["int8 after training"] <= 8_000
    assert sizes["int4 after training"] < sizes["16 shared values"] < sizes["int8 after training"]
