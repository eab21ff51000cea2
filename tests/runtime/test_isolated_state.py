"""What a worker keeps for its step: checkpoints, hyperparameters, gradients that add up, flash."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import DataError, PoetError, ReplayError, UsageError
from poet_runtime import TrainStep
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.isolated import process as process_module
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.disk_parts import At, scripted
from tests.runtime.replay_parts import hand_made_plan, page_everything
from tests.runtime.step_parts import (
    Build,
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
)

Made = tuple[IsolatedStep, nn.Module, torch.optim.Optimizer]
CALLS = 3


def make(folder: Path, build: Build = norm_and_dropout, **options: Any) -> Made:
    """A step in a worker that pages everything."""
    example = batches(build, 1)[0]
    model, loss_fn, optimizer = build()
    program: Program = trace(model, loss_fn, optimizer, example, options=options.pop("step", None))
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    torch.manual_seed(1)
    step = IsolatedStep(
        model, optimizer, program, plan, example, paging_directory=folder, arena=False,
        flash_write_bytes=2**40, **options,
    )  # fmt: skip
    return step, model, optimizer


def kill(step: IsolatedStep) -> None:
    os.kill(step._worker.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "build", [norm_and_dropout, pytest.param(mlp_momentum, marks=pytest.mark.slow)]
)
def test_after_a_kill_the_worker_goes_on_from_its_checkpoint(build: Build, tmp_path: Path) -> None:
    """Killed with the newest checkpoint two steps old; the end has the bits of no kill at all."""
    data = batches(build, 6)
    path = tmp_path / "run"
    step, model, optimizer = make(tmp_path, build, checkpoint_path=path, checkpoint_every=2)
    losses = [step(*batch).item().hex() for batch in data[:3]]
    step.notes["epoch"] = 7
    losses.append(step(*data[3]).item().hex())
    kill(step)
    with pytest.raises(ReplayError) as caught, step:
        step(*data[4])
    assert caught.value.code == "worker_failed"
    step, model, optimizer = make(tmp_path, build, checkpoint_path=path)
    with step:
        with pytest.raises(UsageError) as refused:
            step(*data[4])
        assert refused.value.code == "checkpoint_exists"
        found = step.resume()
        assert (found.steps, step.steps, found.notes, step.notes) == (
            4, 4, {"epoch": 7}, {"epoch": 7},
        )  # fmt: skip
        losses += [step(*batch).item().hex() for batch in data[4:]]
        assert step.steps == 6
    assert outcome(model, optimizer, losses) == eager(build, data)


def test_a_worker_and_this_process_read_each_others_checkpoints(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 6)
    path = tmp_path / "run"
    step, *_ = make(tmp_path, checkpoint_path=path)
    losses = [step(*batch).item().hex() for batch in data[:2]]
    step.checkpoint()
    kill(step)
    with pytest.raises(ReplayError):
        step.close()
    model, loss_fn, optimizer = norm_and_dropout()
    with TrainStep(model, loss_fn, optimizer, data[0], checkpoint_path=path) as local:
        assert local.resume().steps == 2
        losses += [local(*batch).item().hex() for batch in data[2:4]]
        local.checkpoint()
    step, model, optimizer = make(tmp_path, checkpoint_path=path)
    with step:
        assert step.resume().steps == 4
        losses += [step(*batch).item().hex() for batch in data[4:]]
    assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


@pytest.mark.slow
def test_rates_that_are_tensors_travel_and_come_back(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 4)

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        return (
            model,
            loss_fn,
            torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), foreach=False),
        )

    def change(number: int, _model: object, optimizer: torch.optim.Optimizer) -> None:
        if number == 1:
            optimizer.param_groups[0]["lr"].mul_(0.5)

    path = tmp_path / "run"
    step, model, optimizer = make(tmp_path, build, checkpoint_path=path)
    losses = []
    for number, batch in enumerate(data[:3]):
        losses.append(step(*batch).item().hex())
        change(number, model, optimizer)
    step.checkpoint()
    kill(step)
    with pytest.raises(ReplayError):
        step.close()
    step, model, optimizer = make(tmp_path, build, checkpoint_path=path)
    held = optimizer.param_groups[0]["lr"]
    with step:
        step.resume()
        assert optimizer.param_groups[0]["lr"] is held
        assert held.item() == pytest.approx(0.005)
        losses.append(step(*data[3]).item().hex())
    assert outcome(model, optimizer, losses) == eager(build, data, change)


def test_calls_add_gradients_up_to_the_bit(tmp_path: Path) -> None:
    """Two rounds of three calls, clipped, and one call of a third: `.grad` is its gradient."""
    data = batches(norm_and_dropout, 2 * CALLS + 1)
    model, loss_fn, optimizer = norm_and_dropout()
    torch.manual_seed(1)
    losses = []
    for number, (inputs, labels) in enumerate(data):
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        losses.append(loss.item().hex())
        if number % CALLS == CALLS - 1:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    expected = outcome(model, optimizer, losses)
    gradients = {name: p.grad for name, p in model.named_parameters()}
    options = StepOptions(accumulate=CALLS, clip_norm=0.5)
    step, mine, optimizer = make(tmp_path, step=options, checkpoint_path=tmp_path / "run")
    with step:
        found = [step(*batch).item().hex() for batch in data]
        assert step.steps == 2
        with pytest.raises(UsageError) as caught:
            step.checkpoint()
        assert caught.value.code == "checkpoint_accumulating"
    assert outcome(mine, optimizer, found) == expected
    for name, parameter in mine.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradients[name])


@pytest.mark.slow
def test_a_look_amid_the_first_round_changes_nothing(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, CALLS)
    options = StepOptions(accumulate=CALLS)
    ends = []
    for look in (True, False):
        step, model, optimizer = make(tmp_path, step=options)
        with step:
            losses = [step(*data[0]).item().hex()]
            if look:
                step.collect()
                assert not optimizer.state
                assert model[0].weight.grad is not None
            losses += [step(*batch).item().hex() for batch in data[1:]]
        ends.append(outcome(model, optimizer, losses))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("disk", "code"),
    [
        ("io write 40 paging file", "flash_io"),
        pytest.param("full write 40 paging file", "flash_full", marks=pytest.mark.slow),
        pytest.param("io read 20 paging file", "flash_io", marks=pytest.mark.slow),
        ("flip read 20 paging file", "flash_corrupt"),
    ],
)
def test_a_fault_of_the_flash_is_the_named_error_and_voids_the_worker(
    disk: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "WORKER", "tests.runtime.faulty_worker")
    monkeypatch.setenv("POET_TEST_DISK", disk)
    step, model, optimizer = make(tmp_path)
    before = outcome(model, optimizer, ())
    data = batches(norm_and_dropout, 4)

    def train() -> None:
        for batch in data:
            step(*batch)

    with pytest.raises(ReplayError) as caught:
        train()
    assert caught.value.code == code
    with pytest.raises(ReplayError) as again:
        step(*data[0])
    assert again.value.code == "step_void"
    step.close()
    assert outcome(model, optimizer, ()) == before  # as it was when the worker took it over
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "WORKER", "tests.runtime.faulty_worker")
    monkeypatch.setenv("POET_TEST_DISK", "full reserve 0 paging file")
    with pytest.raises(ReplayError) as caught:
        make(tmp_path)
    assert caught.value.code == "flash_full"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_leaves_training_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "WORKER", "tests.runtime.faulty_worker")
    monkeypatch.setenv("POET_TEST_DISK", "io write 6 run.1")
    data = batches(norm_and_dropout, 3)
    path = tmp_path / "run"
    step, model, optimizer = make(tmp_path, checkpoint_path=path)
    with step:
        losses = [step(*batch).item().hex() for batch in data[:2]]
        codes = []
        for _ in range(2):  # one slot of the two is broken
            try:
                step.checkpoint()
            except ReplayError as error:
                codes.append(error.code)
        assert codes == ["checkpoint_io"]
        losses.append(step(*data[2]).item().hex())
    assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_flash_options_reach_the_worker_and_wear_comes_back(tmp_path: Path) -> None:
    named = tmp_path / "page.bin"
    options = FlashOptions(file=named, checksums=Checksums.CRC, direct=False, endurance_bytes=10**9)
    step, *_ = make(tmp_path, flash=options)
    with step:
        assert named.stat().st_size > 0
        step(*batches(norm_and_dropout, 1)[0])
        wear = step.wear()
    assert not named.exists()
    assert (wear.steps, wear.endurance_bytes, wear.direct) == (1, 10**9, False)
    assert wear.step_bytes >= wear.planned_step_bytes > 0
    assert "of its endurance" in wear.line()


@pytest.mark.slow
def test_what_is_wrong_is_the_error_that_the_step_itself_raises(tmp_path: Path) -> None:
    def refused(kind: type[PoetError], **options: Any) -> str:
        with pytest.raises(kind) as caught:
            make(tmp_path, **options)
        return caught.value.code

    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"a letter to somebody")
    assert refused(UsageError, flash=FlashOptions(file=foreign)) == "paging_file_foreign"
    script = scripted(At("io", "read"))
    assert refused(ReplayError, flash=FlashOptions(open_disk=script)) == "step_not_portable"
    assert refused(UsageError, checkpoint_path=tmp_path / "a", checkpoint_every=0) == "checkpoint_every"  # fmt: skip
    step, *_ = make(tmp_path)
    with step:
        for ask in (step.checkpoint, step.resume):
            with pytest.raises(UsageError) as caught:
                ask()
            assert caught.value.code == "no_checkpoint_path"
    step, *_ = make(tmp_path, mlp_momentum, checkpoint_path=tmp_path / "run")
    with step:
        step(*batches(mlp_momentum, 1)[0])
        step.checkpoint()
    step, model, optimizer = make(tmp_path, checkpoint_path=tmp_path / "run")
    before = outcome(model, optimizer, ())
    with step:
        with pytest.raises(DataError) as mismatch:
            step.resume()
        assert mismatch.value.code == "checkpoint_mismatch"
    assert outcome(model, optimizer, ()) == before


def test_an_interrupt_amid_a_step_ends_the_worker_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, model, optimizer = make(tmp_path)
    before = outcome(model, optimizer, ())
    data = batches(norm_and_dropout, 2)
    step(*data[0])
    pid = step._worker.pid

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step._worker._channel, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt), step:
        step(*data[1])
    assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == []
    assert outcome(model, optimizer, ()) == before
