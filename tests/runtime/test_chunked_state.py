"""State that is in parts by chunk: whole whenever somebody looks, in checkpoints and after a fault."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import ReplayError
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.memory.measured_peak import measure_peak, measure_step_peak
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.chunk_parts import CHUNK_BYTES, OPTIONS, SCHEDULES, stepping
from tests.runtime.disk_parts import At, scripted
from tests.runtime.replay_parts import hand_made_plan
from tests.runtime.step_parts import (
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    trained,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", CHUNK_BYTES)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_state_is_whole_whenever_somebody_looks(kind: str, tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 4)
    step, model, optimizer = stepping(norm_and_dropout, tmp_path, kind)
    with step:
        losses = trained(step, data[:2])
        half = outcome(model, optimizer, losses)
        assert half == eager(norm_and_dropout, data[:2])
        held = optimizer.state[next(model.parameters())]["exp_avg"]
        assert held.shape == (32, 20)
        twin_model, twin = copy.deepcopy((model, optimizer))
        losses += trained(step, data[2:])
        # parked again, in parts: nobody reads old numbers
        assert held.shape == (0,)
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)
        assert held is optimizer.state[next(model.parameters())]["exp_avg"]
        assert held.shape == (32, 20)
    assert outcome(twin_model, twin, ()).state == half.state


def test_a_state_dict_that_is_loaded_counts(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 5)
    step, model, optimizer = stepping(mlp_momentum, tmp_path, "page")
    with step:
        trained(step, data[:2])
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        trained(step, data[2:4])
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        trained(step, data[4:])
        found = outcome(model, optimizer, ()).state
    expected = eager(mlp_momentum, [*data[:2], data[4]]).state
    assert found == expected


def test_state_of_another_shape_is_refused_before_anything_happens(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 3)
    step, model, optimizer = stepping(norm_and_dropout, tmp_path, "page")
    with step:
        losses = trained(step, data[:1])
        optimizer.state_dict()
        held = optimizer.state[next(model.parameters())]["exp_avg"]
        before, held.data = held.data, torch.zeros(31, 20)
        with pytest.raises(ReplayError) as caught:
            step(*data[1])
        assert caught.value.code == "state_changed"
        assert "(32, 20)" in caught.value.message
        held.data = before
        losses += trained(step, data[1:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def whole_and_split(folder: Path, *, split: bool, kind: str) -> Any:
    options = OPTIONS if split else StepOptions()
    return stepping(
        norm_and_dropout, folder, kind, options, checkpoint_path=folder / "run",
        flash=FlashOptions(),
    )  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["page", "random"])
def test_checkpoints_know_nothing_of_parts(kind: str, before: bool, after: bool, tmp_path: Path) -> None:  # fmt: skip
    data = batches(norm_and_dropout, 4)
    step, _, _ = whole_and_split(tmp_path, split=before, kind=kind)
    losses = trained(step, data[:2])
    step.checkpoint()
    step.close()
    step, model, optimizer = whole_and_split(tmp_path, split=after, kind="page")
    with step:
        assert step.resume().steps == 2
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_checkpoints_with_and_without_parts_are_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name, split in (("split", True), ("whole", False)):
        folder = tmp_path / name
        folder.mkdir()
        step, _, _ = whole_and_split(folder, split=split, kind="page")
        trained(step, batches(norm_and_dropout, 2))
        step.checkpoint()
        step.close()
        found.append([path.read_bytes() for path in sorted(folder.glob("run*"))])
    assert found[0] == found[1]
    assert any(map(any, found[0]))


def test_a_fault_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 3)
    step, model, optimizer = stepping(
        norm_and_dropout,
        tmp_path,
        "page",
        flash=FlashOptions(open_disk=scripted(At("io", "write", 700))),
    )
    with pytest.raises(ReplayError):
        trained(step, data * 20)
    step.close()
    for parameter in model.parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            value = optimizer.state[parameter][key]
            assert value.shape == parameter.shape
            assert value.isnan().all()


def test_parking_makes_zeros_one_part_at_a_time(tmp_path: Path) -> None:
    """A moment of 100 KB is never in RAM, new or parked."""

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 1280), nn.ReLU(), nn.Linear(1280, 10))
        return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters())

    step, model, optimizer = stepping(build, tmp_path, "page")
    data = batches(build, 2)
    moment = 20 * 1280 * 4
    with step:
        found = measure_peak(lambda: None, step.park)
        assert found.peak_bytes < moment / 4
        measured = measure_step_peak(step, data)
        assert measured.peak_bytes <= step.judgement.peak_bytes
        losses = outcome(model, optimizer, ())
    assert losses.state == eager(build, data).state


def isolated(program: Program, folder: Path, **options: Any) -> Any:
    plan = hand_made_plan(program.graph, SCHEDULES["random"](program.graph))
    model, _, optimizer = norm_and_dropout()
    torch.manual_seed(1)
    step = IsolatedStep(
        model, optimizer, program, plan, batches(norm_and_dropout, 1)[0], paging_directory=folder,
        flash_write_bytes=2**40, **options,
    )  # fmt: skip
    return step, model, optimizer


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Two steps there, a look, a checkpoint, and another step; then from the checkpoint once more in
    a process whose moments are whole."""
    data = batches(norm_and_dropout, 3)
    program = trace(*norm_and_dropout(), data[0], options=OPTIONS)
    step, model, optimizer = isolated(program, tmp_path, checkpoint_path=tmp_path / "run")
    with step:
        losses = [step(*batch).item().hex() for batch in data[:2]]
        step.checkpoint()
        step.collect()
        half = outcome(model, optimizer, losses)
        last = step(*data[2]).item().hex()
    expected = outcome(model, optimizer, [*losses, last])
    assert expected == eager(norm_and_dropout, data)
    assert half.state == eager(norm_and_dropout, data[:2]).state
    for options in (StepOptions(), OPTIONS):
        program = trace(*norm_and_dropout(), data[0], options=options)
        step, model, optimizer = isolated(program, tmp_path, checkpoint_path=tmp_path / "run")
        with step:
            assert step.resume().steps == 2
            again = step(*data[2]).item().hex()
        assert outcome(model, optimizer, [*losses, again]) == expected
