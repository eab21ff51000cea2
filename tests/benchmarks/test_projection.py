"""The projection benchmark's bookkeeping: recipes, means and pairs, choices, tables, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import torch

from benchmarks import projection
from benchmarks.projection_data import image_splits, narrowed, text_splits
from benchmarks.projection_fit import student_net, students
from benchmarks.projection_parts import Part, parts
from benchmarks.projection_picture import picture
from benchmarks.projection_place import STEPS, Pace, small_place
from benchmarks.projection_recipes import (
    CIFAR_TABLE,
    CIFAR_TRAINER,
    LABELS,
    NEURAL_BITS,
    PAPER_TABLE,
    digest,
    of_size,
    search,
    table_of,
)
from benchmarks.projection_summary import cells, chosen_intents, pair, part_pairs, summary
from benchmarks.projection_tables import markdown
from poet_core.errors import UsageError
from projection_nets.heads import dense_head
from projection_nets.packing import packed_bits
from projection_nets.trainers import feed_forward


def record(part: str, seed: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    job = {"part": part, "data": "mnist", "seed": seed, "recipe": "r"}
    return {"job": job, "job_seconds": 60.0, "sources": "abc", "rows": rows}


def row(name: str, p1: float, **more: Any) -> dict[str, Any]:
    shares = {"1": p1, "3": 99.0, "5": 100.0}
    return {"row": name, "parameters": 7210, "test": shares, "validation": shares, **more}


def of(records: list[dict[str, Any]]) -> dict[str, Any]:
    machine = {"threads": 2, "processor": "a chip", "python": "3.11", "torch": "2.13"}
    return summary(records, ["ram-mnist seed 0"], machine, steps=STEPS, small=False)


def test_the_recipes_have_the_papers_parameter_counts(tmp_path: Path) -> None:
    splits = image_splits(small_place(tmp_path, quiet=True), "mnist", 0)
    for size, paper in PAPER_TABLE.items():
        net = student_net(splits, of_size(size), 0)
        assert sum(p.numel() for p in net.parameters()) == paper.parameters, size


def test_every_size_has_its_twin_and_every_name_is_its_own() -> None:
    names = [recipe.name for recipe in table_of("mnist")]
    assert len(set(names)) == len(names)
    assert all(size + LABELS in names for size in PAPER_TABLE)
    assert all(r.distillation_weight == 0 for r in table_of("mnist") if r.name.endswith(LABELS))
    found = [recipe.name for recipe in search()]
    assert len(set(found)) == len(found) == 21


def test_cifar_100_has_the_papers_trainer_and_sizes() -> None:
    trainer = feed_forward(3 * 32 * 32, 100)
    assert sum(p.numel() for p in trainer.parameters()) == CIFAR_TRAINER.parameters
    sizes = {recipe.name for recipe in table_of("cifar100")}
    assert sizes == {*CIFAR_TABLE, *(size + LABELS for size in CIFAR_TABLE)}
    for size, paper in CIFAR_TABLE.items():
        recipe = of_size(size)
        head = dense_head(recipe.functions * recipe.bits, recipe.hidden, 100)
        assert sum(p.numel() for p in head.parameters()) == paper.parameters


def test_cifar_100_is_a_part_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POET_DATA", str(tmp_path))
    assert "table-cifar100" not in [part.name for part in parts()]
    (tmp_path / "cifar-100-binary").mkdir()
    assert "table-cifar100" in [part.name for part in parts()]


def test_a_digest_is_of_every_number() -> None:
    recipe = of_size("60,12")
    assert digest(recipe) == digest(of_size("60,12"))
    assert digest(recipe) != digest(replace(recipe, temperature=2.0))
    assert digest(recipe, 1) != digest(recipe, 2)


@pytest.mark.parametrize("size", NEURAL_BITS)
def test_the_first_bits_are_those_of_the_smaller_projection(
    tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "first-bits"
    splits = image_splits(small_place(folder, quiet=True), "mnist", 1)
    first = narrowed(splits.specs["bits"], *size, "zero_one")
    own = packed_bits(first.spec, splits.test.inputs[0].numpy()[:20])
    shown = first(splits.test.inputs[1][:20])
    again = type(first).__mro__[1](first.spec)(torch.from_numpy(own))
    assert shown.shape == (20, size[0] * size[1])
    assert torch.equal(shown, again)


def test_no_projection_is_wider_than_the_bits(tmp_path: Path) -> None:
    splits = text_splits(small_place(tmp_path, quiet=True), "snips", 0)
    with pytest.raises(UsageError):
        narrowed(next(iter(splits.specs.values())), 200, 12, "zero_one")


def test_twins_begin_with_equal_weights_and_seeds_with_others(tmp_path: Path) -> None:
    splits = image_splits(small_place(tmp_path, quiet=True), "mnist", 0)
    pair_of = [of_size("10,12"), of_size("10,12", name="twin", distillation_weight=0.0)]
    made = students(splits, pair_of, 0)
    weights = [made[name].net.head.weight for name in ("10,12", "twin")]  # type: ignore[union-attr]
    assert torch.equal(*weights)
    other = student_net(splits, pair_of[0], 1)
    assert not torch.equal(weights[0], other.head.weight)  # type: ignore[arg-type]


# -- numbers ----------------------------------------------------------------------------------


def test_means_spreads_and_pairs_are_over_the_seeds() -> None:
    values = {"60,12": (92.0, 93.0, 94.0), "60,12" + LABELS: (91.0, 92.1, 92.9)}
    records = [
        record("table-mnist", seed, [row(name, found[seed]) for name, found in values.items()])
        for seed in range(3)
    ]
    found = cells(records)
    assert found[0]["test"]["1"] == [93.0, 1.0]
    (joint,) = part_pairs("table-mnist", found)
    assert joint["differences"] == [1.0, 0.9, 1.1]
    assert joint["mean"] == 1.0
    # 4.303 x 0.1 / sqrt(3)
    assert joint["half_interval"] == pytest.approx(0.2484, abs=1e-4)
    assert joint["significant"]
    noisy = [record("t", s, [row("a", v)]) for s, v in enumerate((1.0, 5.0, -3.0))]
    zeros = [record("t", s, [row("a", 0.0)]) for s in range(3)]
    assert not pair(cells(noisy)[0], cells(zeros)[0])["significant"]


def test_one_seed_is_never_significant() -> None:
    one, other = cells([record("t", 0, [row("a", 9.0)])]), cells([record("t", 0, [row("a", 1.0)])])
    assert pair(one[0], other[0])["half_interval"] is None
    assert not pair(one[0], other[0])["significant"]


def test_rows_are_told_apart_by_labels_and_find_their_twin() -> None:
    rows = []
    for labels in (300, 1000):
        rows += [
            row("60,12", 80.0 + labels / 1000, labels=labels),
            row("60,12" + LABELS, 80.0, labels=labels),
            row("60,12 soft targets on all images", 85.0, labels=labels),
        ]
    found = part_pairs("few-mnist", cells([record("few-mnist", 0, rows)]))
    assert [(one["labels"], one["mean"]) for one in found] == [
        (300, 0.3), (300, 5.0), (1000, 1.0), (1000, 5.0),
    ]  # fmt: skip


def test_layers_and_mentees_are_paired_with_their_own_kind() -> None:
    layers = [
        row("60,12 over the first layer", 95.0),
        row("60,12 labels over the first layer", 94.0),
    ]
    (one,) = part_pairs("layers-mnist", cells([record("layers-mnist", 0, layers)]))
    assert (one["row"], one["mean"]) == ("60,12 over the first layer", 1.0)
    mentees = [
        row(name, p1, network=network, labels=10)
        for network, p1s in (("a", (90.0, 92.0)), ("b", (80.0, 79.0)))
        for name, p1 in zip(("alone", "soft targets"), p1s, strict=True)
    ]
    found = part_pairs("mentee-mnist", cells([record("mentee-mnist", 0, mentees)]))
    assert [(x["network"], x["mean"]) for x in found] == [("a", 2.0), ("b", -1.0)]


def test_a_variant_is_chosen_by_validation_and_not_by_test() -> None:
    good, lucky = row("60,12 zero_one", 80.0), row("60,12 plus_minus_one", 99.0)
    good["validation"], lucky["validation"] = {"1": 90.0}, {"1": 85.0}
    found = cells([record("intents-snips", 0, [row("trainer", 90.0), good, lucky])])
    assert chosen_intents(found)["60,12"]["row"] == "60,12 zero_one"


# -- tables -----------------------------------------------------------------------------------


def test_a_row_meets_the_paper_only_in_all_of_its_figures() -> None:
    exact = row("60,12", 92.26)
    exact["test"] = {"1": 92.26, "3": 98.96, "5": 99.6}
    text = markdown(of([record("table-mnist", 0, [row("trainer", 98.7), exact])]))
    assert (
        "| 60,12 | 7,210 | 92.26 ± 0.00 | 98.96 ± 0.00 | 99.60 ± 0.00 | \u2013 | 92.3 / 99 / 99.6 | yes |"
        in text
    )
    assert "yes (target 98.6)" in text
    assert "ram-mnist seed 0" in text
    exact["test"]["5"] = 99.54
    worse = markdown(of([record("table-mnist", 0, [row("trainer", 98.5), exact])]))
    assert "| 92.3 / 99 / 99.6 | no |" in worse
    assert "no (target 98.6)" in worse


def test_the_stretch_figure_is_of_the_row_that_validation_chooses() -> None:
    files = {"bytes": 29_000, "int8_bytes": 7_500}
    good, lucky = row("60,12, T=4", 93.5, **files), row("60,12 bits 0/1", 94.5, **files)
    good["validation"], lucky["validation"] = {"1": 95.0}, {"1": 93.0}
    text = markdown(of([record("stretch-mnist", 0, [good, lucky])]))
    assert (
        "7,210 parameters at 94: not reached; best on the validation part: 60,12, T=4, 93.50."
        in text
    )
    good["test"] = {**good["test"], "1": 94.0}
    assert "at 94: reached" in markdown(of([record("stretch-mnist", 0, [good, lucky])]))


def test_other_parameter_counts_do_not_meet_the_paper() -> None:
    text = markdown(of([record("table-mnist", 0, [row("60,12", 99.0, parameters=7211)])]))
    assert "(paper: 7,210)" in text
    assert "| 92.3 / 99 / 99.6 | no |" in text


@pytest.mark.parametrize(
    ("size", "lost", "held"), [(7_999, 0.3, "yes"), (8_001, 0.0, "no"), (7_000, 0.31, "no")]
)
def test_the_shipped_size_counts_with_its_accuracy(size: int, lost: float, held: str) -> None:
    rows = [
        row("float32", 92.0, network="60,12", bytes=29_000),
        row("int8 after training", round(92.0 - lost, 4), network="60,12", bytes=size),
    ]
    text = markdown(of([record("quantized-mnist", 0, rows)]))
    assert f"within 0.3 points: {held}." in text


def test_the_picture_has_the_measured_points_and_the_papers() -> None:
    records = [
        record("bits-mnist", seed, [row("60,12", 92.0, neural_bits=720, ratio=0.93 + seed / 100)])
        for seed in range(2)
    ]
    drawn = ET.fromstring(picture(of(records)))
    circles = list(drawn.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(circles) == 4 + 1
    assert ET.fromstring(picture(of([]))) is not None


# -- runs -------------------------------------------------------------------------------------


def run(tmp_path: Path, *only: str, seeds: int = 1) -> dict[str, Any]:
    arguments = ["--small", "--quiet", "--seeds", str(seeds), "--threads", "1"]
    arguments += ["--lines", str(tmp_path), "--only", *only]
    assert projection.main(arguments) == 0
    found: dict[str, Any] = json.loads((tmp_path / "projection-small.json").read_text())
    return found


def test_a_run_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(tmp_path, "coupled")
    assert first["missing"] == []
    asked: list[tuple[str, int]] = []

    def counted() -> tuple[Part, ...]:
        def wrap(part: Part) -> Part:
            def noted(place: Any, data: str, seed: int) -> Any:
                asked.append((part.name, seed))
                return part.run(place, data, seed)

            return replace(part, run=noted)

        return tuple(wrap(part) for part in parts())

    monkeypatch.setattr(projection, "parts", counted)
    second = run(tmp_path, "coupled", seeds=2)
    assert asked == [("coupled-mnist", 1)]
    cell = second["parts"]["coupled-mnist"][1]
    assert cell["by_seed"]["0"] == first["parts"]["coupled-mnist"][1]["by_seed"]["0"]
    assert not list((tmp_path / "projection-small").glob("states-*"))
    text = (tmp_path / "projection-small.md").read_text()
    assert projection.main(["--small", "--plot-only", "--lines", str(tmp_path)]) == 0
    assert (tmp_path / "projection-small.md").read_text() == text
    assert "A --small run" in capsys.readouterr().out


def test_a_killed_part_repeats_no_training_that_is_done(tmp_path: Path) -> None:
    from benchmarks.projection_images import coupled_rows

    place = small_place(tmp_path, quiet=True)
    whole = coupled_rows(place, "mnist", 0)
    kept = replace(place, states=tmp_path / "states")
    assert coupled_rows(kept, "mnist", 0) == whole
    (state,) = (tmp_path / "states").iterdir()
    written = state.stat().st_mtime_ns
    assert coupled_rows(kept, "mnist", 0) == whole
    assert state.stat().st_mtime_ns == written


def test_a_part_that_cannot_run_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(place: Any, data: str, seed: int) -> Any:
        raise UsageError("no", code="none", hint="none")

    def some() -> tuple[Part, ...]:
        good = next(part for part in parts() if part.name == "coupled-mnist")
        return (replace(good, name="broken", run=broken), good)

    monkeypatch.setattr(projection, "parts", some)
    arguments = ["--small", "--quiet", "--seeds", "1", "--lines", str(tmp_path)]
    arguments += ["--results", str(tmp_path)]
    assert projection.main(arguments) == 1
    found = json.loads((tmp_path / "projection-small.json").read_text())
    assert found["missing"] == ["broken seed 0"]
    assert list(found["parts"]) == ["coupled-mnist"]


@pytest.mark.slow
def test_two_parts_at_a_time_give_the_same_rows(tmp_path: Path) -> None:
    alone = run(tmp_path / "one", "coupled", "baselines")["parts"]
    arguments = ["--small", "--quiet", "--seeds", "1", "--threads", "1", "--jobs", "2"]
    arguments += ["--lines", str(tmp_path / "two"), "--only", "coupled", "baselines"]
    assert projection.main(arguments) == 0
    found = json.loads((tmp_path / "two" / "projection-small.json").read_text())["parts"]
    assert {name: found[name] for name in alone} == alone


def test_the_list_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert projection.main(["--list"]) == 0
    listed = capsys.readouterr().out
    assert all(part.name in listed for part in parts())
    assert len({part.name for part in parts()}) == len(parts())


def test_a_pace_tells_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(small_place(tmp_path), "a training", 10, every_seconds=0.0)
    pace.step(1, 0.5)
    assert "a training: step 1/10  loss 0.5000" in capsys.readouterr().err
