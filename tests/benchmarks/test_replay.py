"""The comparison harness: every method does eager's step, errors are what they say, rows are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import replay
from benchmarks.replay_disk import OnDisk, SavedOnDisk
from benchmarks.replay_fault import measure_fault
from benchmarks.replay_methods import EAGER, METHODS, Segments, Trainer
from benchmarks.replay_picture import ours_points, picture
from benchmarks.replay_report import OursRow, Row, Store, complaints, table
from benchmarks.replay_worker import first_moments, gradient_error
from examples import gpt2, resnet
from examples.parts import Step
from poet_core.errors import ReplayError
from poet_runtime.fingerprint import fingerprint

_MIB = 2**20
STEPS = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def wide_gpt2() -> Step:
    """Its logits, and nothing else, are larger than what goes to disk."""
    shape = gpt2.Gpt2Shape(vocabulary=9000, positions=32, width=16, layers=4, heads=2)
    return gpt2.step(batch_size=4, length=16, shape=shape)


def trained(build: Callable[[], Step], blocks: str, method: str) -> tuple[list[float], Trainer]:
    trainer = Trainer(build(), blocks, METHODS[method], "aot_eager")
    torch.manual_seed(1)
    losses = [trainer() for _ in range(STEPS)]
    trainer.close()
    return losses, trainer


EXACT = [name for name, method in METHODS.items() if method.budget is None]


@pytest.mark.parametrize("method", [name for name in EXACT if name != EAGER])
def test_a_method_trains_as_eager_does_to_the_bit(method: str) -> None:
    losses, eager = trained(wide_gpt2, "layers", EAGER)
    found, trainer = trained(wide_gpt2, "layers", method)
    assert found == losses
    assert len(set(losses)) == STEPS
    assert fingerprint(trainer.model, trainer.optimizer()) == fingerprint(
        eager.model, eager.optimizer()
    )


def test_checkpointing_updates_statistics_twice_and_nothing_else() -> None:
    _, eager = trained(resnet.step_small, "blocks", EAGER)
    _, trainer = trained(resnet.step_small, "blocks", "checkpoint")
    for one, other in zip(eager.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(one, other)
    counted = dict(trainer.model.named_buffers())
    assert counted["stem.1.num_batches_tracked"] == STEPS
    assert counted["blocks.0.bn1.num_batches_tracked"] == 2 * STEPS


def test_segments_are_of_equal_length_and_save_only_what_goes_between_them() -> None:
    blocks = [nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(7)]
    segments = Segments(blocks, 3)
    assert len(segments) == 3
    states = torch.rand(2, 3, requires_grad=True)
    expected = states
    for block in blocks:
        expected = block(expected)
    saved: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = segments(states)
    assert torch.equal(found, expected)
    assert len(saved) <= 3
    assert torch.equal(torch.autograd.grad(found.sum(), states)[0],
                       torch.autograd.grad(expected.sum(), states)[0])  # fmt: skip


def test_no_gradient_is_left_where_the_optimizer_is_in_the_backward_pass() -> None:
    _, eager = trained(wide_gpt2, "layers", EAGER)
    _, trainer = trained(wide_gpt2, "layers", "in-backward")
    assert all(parameter.grad is not None for parameter in eager.model.parameters())
    assert all(parameter.grad is None for parameter in trainer.model.parameters())


def _large() -> torch.Tensor:
    return torch.rand(700, 3, 300, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "tensor",
    [
        _large(),
        _large().permute(2, 0, 1),
        _large()[100:],
        _large().expand(1, -1, -1, -1),
        _large().repeat(5, 1, 1),  # more than a buffer
        _large().to(torch.bfloat16),
        torch.arange(300_000),
    ],
    ids=["plain", "permuted", "part", "one more", "long", "half", "integers"],
)
def test_what_is_saved_comes_back_from_disk_with_bits_strides_and_type(
    tensor: torch.Tensor,
) -> None:
    disk = SavedOnDisk(())
    try:
        packed, second = disk.write(tensor), disk.write(tensor + 1)
        assert isinstance(packed, OnDisk)
        assert isinstance(second, OnDisk)
        assert second.place >= packed.place + packed.size_bytes
        read = disk.read(packed)
        assert torch.equal(read, tensor)
        assert (read.dtype, read.stride()) == (tensor.dtype, tensor.stride())
        assert torch.equal(disk.read(second), tensor + 1)
        disk.begin()
        again = disk.write(tensor)
        assert isinstance(again, OnDisk)
        assert again.place == 0
    finally:
        disk.close()


def test_parameters_small_tensors_and_gaps_stay_in_memory() -> None:
    weight = nn.Parameter(torch.rand(1000, 300))
    disk = SavedOnDisk([weight])
    try:
        for tensor in (weight, weight.t(), torch.rand(1000), torch.rand(2000, 300)[:, :299]):
            assert disk.write(tensor) is tensor
            assert disk.read(tensor) is tensor
    finally:
        disk.close()


def test_gradients_are_compared_where_the_optimizer_left_them() -> None:
    _, trainer = trained(resnet.step_small, "blocks", EAGER)
    moments = first_moments(trainer.model, trainer.optimizer())
    assert list(moments) == [name for name, _ in trainer.model.named_parameters()]
    assert gradient_error(moments, moments) == 0


def test_the_gradient_error_is_the_worst_parameters_but_rounding_is_none() -> None:
    expected = {
        "one": torch.tensor([3.0, 4.0]),
        "two": torch.ones(4),
        "noise": torch.full((2,), 1e-9),
    }
    found = {
        "one": torch.tensor([3.0, 4.5]),
        "two": torch.tensor([1.0, 1, 1, 0.5]),
        "noise": torch.full((2,), -1e-9),
    }
    assert gradient_error(found, expected) == pytest.approx(0.25)
    assert gradient_error(expected | {"noise": found["noise"]}, expected) == 0


@pytest.mark.slow
def test_without_dropout_or_with_the_whole_budget_compiled_gradients_are_eagers() -> None:
    rows = measure_fault(quick=True)
    assert {row.dropout for row in rows} == {0.0, 0.1}
    for row in rows:
        assert row.same_loss
        if row.budget == 1 or not row.dropout:
            assert row.error == row.error_own == 0


OURS = OursRow(
    cap_bytes=300 * _MIB, planned_bytes=100 * _MIB, peak_bytes=280 * _MIB, seconds=1.5, ratio=0.75,
    gradient_error=0.0, same_bits=True,
)  # fmt: skip
ROW = Row(
    model="bert", small=False, method=EAGER, compiler="", steps=3, peak_bytes=310 * _MIB,
    seconds=2.0, gradient_error=0.0, random=True, same_losses=True, same_bits=True, ours=OURS,
    refused="", load_average=0.5, wall_seconds=20.0,
)  # fmt: skip


def stored(folder: Path, *rows: Row) -> Store:
    store = Store(folder)
    for row in rows:
        store.put(row)
    store.write()
    return store


def test_rows_are_kept_beside_those_of_earlier_runs_and_replace_their_own(tmp_path: Path) -> None:
    other = replace(ROW, method="in-backward", ours=None, refused="too little")
    stored(tmp_path, other, ROW, replace(ROW, model="resnet"))
    stored(tmp_path, replace(ROW, seconds=4.0))
    store = Store(tmp_path)
    assert [(row.model, row.method) for row in store.rows] == [
        ("resnet", EAGER), ("bert", EAGER), ("bert", "in-backward"),
    ]  # fmt: skip
    assert store.rows[1] == replace(ROW, seconds=4.0)
    assert store.rows[2] == other
    assert (store.has("bert", EAGER), store.has("gpt2", EAGER)) == (True, False)
    assert (tmp_path / "replay.md").read_text() == table(store)
    assert (tmp_path / "replay.svg").read_text() == picture(store.rows)


def test_small_runs_keep_nothing_unless_told_where(tmp_path: Path) -> None:
    stored(tmp_path, ROW)
    store = Store(tmp_path, kept=False)
    assert store.rows == []
    store.put(replace(ROW, small=True))
    store.write()
    assert Store(tmp_path).rows == [ROW]


def cells(store: Store, method: str) -> list[str]:
    title = METHODS[method].title
    line = next(line for line in table(store).splitlines() if f"| {title}" in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_says_what_each_method_did(tmp_path: Path) -> None:
    budget = "budget-0.5"
    compiled = replace(
        ROW, method=budget, compiler="inductor", gradient_error=0.4, same_losses=False,
        same_bits=False, ours=replace(OURS, same_bits=False, gradient_error=1e-7),
    )  # fmt: skip
    checkpointed = replace(ROW, method="checkpoint", same_bits=False, ours=None)
    store = stored(tmp_path, ROW, compiled, checkpointed)
    assert cells(store, EAGER) == [
        "BERT-base 4 x 512, Adam", EAGER, "310", "2.00", "exact", "as eager",
        "300", "280", "1.50", "**0.75**", "as eager",
    ]  # fmt: skip
    assert cells(store, budget)[1:6] == [
        "torch.compile, memory budget 0.5 (inductor)", "310", "2.00", "0.4", "other random numbers",
    ]  # fmt: skip
    assert cells(store, budget)[-1] == "OTHER"
    assert cells(store, "checkpoint")[5:7] == ["gradients as eager", "none"]
    alike = replace(compiled, same_losses=True)
    assert cells(stored(tmp_path, alike), budget)[5] == "other"


def test_complaints_are_of_bits_of_time_and_of_no_step() -> None:
    slower = replace(ROW, ours=replace(OURS, ratio=1.2))
    other = replace(ROW, ours=replace(OURS, same_bits=False))
    none = replace(ROW, ours=None, refused="too little")
    assert complaints([ROW], judge_time=True) == []
    assert ["1.200 of its time" in one for one in complaints([slower], judge_time=True)] == [True]
    assert complaints([slower], judge_time=False) == []
    assert ["other bits" in one for one in complaints([other], judge_time=False)] == [True]
    assert ["too little" in one for one in complaints([none], judge_time=False)] == [True]


def test_the_picture_has_a_panel_a_model_and_ours_through_its_caps() -> None:
    rows = [
        ROW,
        replace(ROW, method="in-backward", ours=replace(OURS, seconds=1.7)),
        replace(ROW, method="disk", ours=replace(OURS, cap_bytes=200 * _MIB)),
        replace(ROW, model="resnet", peak_bytes=1000 * _MIB),
    ]
    assert ours_points(rows[:3]) == [(200.0, 1.5), (300.0, pytest.approx(1.6))]
    drawn = picture(rows)
    assert drawn.count("<g ") == 2
    assert drawn.count('r="4"') == 4
    assert drawn.count('r="2.4"') == 3
    assert picture([]).endswith("</svg>\n")


def test_the_picture_shows_what_was_measured_under_smaller_caps(tmp_path: Path) -> None:
    stored(tmp_path, ROW)
    without = (tmp_path / "replay.svg").read_text()
    rows = [
        {"cap_bytes": None, "seconds": 1.0},
        {"cap_bytes": 128 * _MIB, "seconds": 1.6},
        {"cap_bytes": 64 * _MIB, "seconds": None},
    ]
    (tmp_path / "caps.json").write_text(json.dumps({"bert": rows, "vit": rows}))
    assert Store(tmp_path).capped() == {"bert": [(128 * _MIB, 1.6)]}
    stored(tmp_path, ROW)
    drawn = (tmp_path / "replay.svg").read_text()
    assert drawn.count('fill="white" stroke') == without.count('fill="white" stroke') + 1


def test_without_the_right_to_make_groups_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Any:
        raise ReplayError("No memory control group can be made here.", code="no_cgroup")

    monkeypatch.setattr(replay, "find_hierarchy", refuse)
    assert replay.main(["--small"]) == 0
    assert "Nothing measured: No memory control group" in capsys.readouterr().out


@pytest.mark.slow
def test_small_run_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    method = "checkpoint-all"
    options = ["--small", "--model", "gpt2", "--method", method, "--steps", "1"]
    status = replay.main([*options, "--out", str(tmp_path)])
    shown = capsys.readouterr().out
    if "Nothing measured" in shown:
        pytest.skip(shown.strip())
    assert status == 0, shown
    eager, other = Store(tmp_path).rows
    assert (eager.method, other.method) == (EAGER, method)
    for row in (eager, other):
        assert row.gradient_error == 0
        assert row.same_bits
        assert row.seconds > 0
        assert row.peak_bytes > 150 * _MIB
        assert row.ours is not None
        assert row.ours.same_bits
        assert row.ours.gradient_error == 0
        assert row.ours.cap_bytes <= row.peak_bytes
        assert row.ours.peak_bytes is not None
        assert row.ours.planned_bytes < row.ours.peak_bytes <= row.ours.cap_bytes
    assert len(json.loads((tmp_path / "replay.json").read_text())["rows"]) == 2
