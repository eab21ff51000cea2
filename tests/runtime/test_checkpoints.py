"""Checkpoints of a TrainStep: what is resumed goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import DataError, ReplayError, UsageError
from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.memory.measured_peak import measure_peak
from poet_runtime.tracing.trace import trace
from tests.runtime.disk_parts import At, scripted
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Build,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    tied,
    trained,
)

Made = tuple[TrainStep, Any, torch.optim.Optimizer]


def make(folder: Path, build: Build = norm_and_dropout, seed: int = -1, **options: Any) -> Made:
    """A TrainStep that pages everything, or as a random schedule says; checkpoints in `folder`."""
    example = batches(build, 1)[0]
    model, loss_fn, optimizer = build()
    program = trace(model, loss_fn, optimizer, example)
    graph = program.graph
    schedule = random_schedule(graph, seed) if seed >= 0 else page_everything(graph)
    step = TrainStep(
        model, loss_fn, optimizer, example, plan=hand_made_plan(graph, schedule), program=program,
        flash_write_bytes=2**40, paging_directory=folder, checkpoint_path=folder / "run", **options,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


def killed(step: TrainStep) -> None:
    """Ends a run as a kill does: nothing is brought back."""
    step.running.validity.void = "killed"
    step.close()


@pytest.mark.parametrize("build", [mlp_momentum, norm_and_dropout, convolution, tied])
def test_what_is_resumed_ends_with_the_same_bits(tmp_path: Path, build: Build) -> None:
    data = batches(build, 7)
    step, _, _ = make(tmp_path, build, checkpoint_every=2)
    losses = trained(step, data[:5])
    killed(step)
    step, model, optimizer = make(tmp_path, build)
    with step:
        torch.manual_seed(99)
        assert step.resume().steps == step.steps == 4
        losses = losses[:4] + trained(step, data[4:])
        assert outcome(model, optimizer, losses) == eager(build, data)


@pytest.mark.parametrize("seed", range(3))
def test_a_checkpoint_fits_every_plan(tmp_path: Path, seed: int) -> None:
    data = batches(norm_and_dropout, 4)
    step, _, _ = make(tmp_path, seed=seed)
    losses = trained(step, data[:2])
    step.checkpoint()
    killed(step)
    step, model, optimizer = make(tmp_path, seed=seed + 7)
    with step:
        step.resume()
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_a_checkpoint_changes_nothing_and_takes_no_memory(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 4)
    step, model, optimizer = make(tmp_path)
    with step:
        losses = trained(step, data[:2])
        found = measure_peak(step.reallocate, step.checkpoint)
        rest = sum(t.numel() * t.element_size() for t in model.parameters())
        assert found.peak_bytes - found.begin_bytes < 6000 + rest  # the generator's own state: 5056
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_notes_numbers_and_learning_rates_come_back(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 3)

    def build_with_tensor_rate() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        return model, loss_fn, torch.optim.Adam(
            model.parameters(), lr=torch.tensor(0.01), betas=(0.8, 0.99), capturable=False,
            foreach=False,
        )  # fmt: skip

    step, _, optimizer = make(tmp_path, build_with_tensor_rate)
    optimizer.param_groups[0]["lr"].mul_(0.5)
    optimizer.param_groups[0]["eps"] = 1e-7
    trained(step, data[:1])
    step.notes["epoch"] = 3
    step.checkpoint()
    killed(step)
    step, _, optimizer = make(tmp_path, build_with_tensor_rate)
    held = optimizer.param_groups[0]["lr"]
    with step:
        assert step.resume().notes == {"epoch": 3}
        assert step.notes == {"epoch": 3}
        group = optimizer.param_groups[0]
        assert group["lr"] is held
        assert held.item() == pytest.approx(0.005)
        assert (group["eps"], group["betas"], group["amsgrad"]) == (1e-7, (0.8, 0.99), False)


def test_a_scheduler_goes_on_where_it_was(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 6)

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        return mlp_momentum()

    def scheduled(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.7)

    model, loss_fn, optimizer = build()
    scheduler = scheduled(optimizer)
    for inputs, labels in data:
        optimizer.zero_grad()
        loss_fn(model(inputs), labels).backward()
        optimizer.step()
        scheduler.step()
    expected = outcome(model, optimizer, ()).state

    step, _, optimizer = make(tmp_path, build)
    scheduler = scheduled(optimizer)
    for batch in data[:3]:
        step(*batch)
        scheduler.step()
    step.notes["scheduler"] = scheduler.state_dict()
    step.checkpoint()
    killed(step)
    step, model, optimizer = make(tmp_path, build)
    with step:
        scheduler = scheduled(optimizer)
        scheduler.load_state_dict(dict(step.resume().notes["scheduler"]))
        for batch in data[3:]:
            step(*batch)
            scheduler.step()
        assert outcome(model, optimizer, ()).state == expected


def test_a_run_does_not_write_over_what_it_did_not_resume_from(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 3)
    step, _, _ = make(tmp_path, checkpoint_every=1)
    trained(step, data[:2])
    killed(step)
    before = [(tmp_path / f"run.{slot}").read_bytes() for slot in (0, 1)]
    step, _, _ = make(tmp_path, checkpoint_every=1)
    with step:
        with pytest.raises(UsageError) as caught:
            step(*data[0])
        assert caught.value.code == "checkpoint_exists"
        assert before == [(tmp_path / f"run.{slot}").read_bytes() for slot in (0, 1)]
        assert step.resume().steps == 2
        trained(step, data[2:])


def test_resuming_where_there_is_nothing_begins_at_the_beginning(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 2)
    step, model, optimizer = make(tmp_path, checkpoint_every=1)
    with step:
        assert step.resume().steps == 0
        losses = trained(step, data)
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_resuming_in_the_middle_goes_back(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 4)
    step, model, optimizer = make(tmp_path)
    with step:
        losses = trained(step, data[:1])
        step.checkpoint()
        trained(step, [data[3], data[2]])
        assert step.resume().steps == 1
        losses += trained(step, data[1:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def wider() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 10))
    return model, nn.functional.cross_entropy, torch.optim.SGD(model.parameters(), momentum=0.9)


def two_groups() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model, loss_fn, _ = mlp_momentum()
    first, *others = model.parameters()
    groups: Any = [{"params": [first]}, {"params": others}]
    return model, loss_fn, torch.optim.SGD(groups, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("other", [wider, two_groups, norm_and_dropout])
def test_a_checkpoint_of_something_else_is_refused_before_anything_changes(
    tmp_path: Path, other: Build
) -> None:
    step, _, _ = make(tmp_path, mlp_momentum, checkpoint_every=1)
    trained(step, batches(mlp_momentum, 1))
    killed(step)
    step, model, optimizer = make(tmp_path, other)
    with step:
        before = outcome(model, optimizer, ())
        with pytest.raises(DataError) as caught:
            step.resume()
        assert caught.value.code == "checkpoint_mismatch"
        assert outcome(model, optimizer, ()) == before


def test_room_for_checkpoints_is_taken_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ReplayError) as caught:
        make(
            tmp_path, flash=FlashOptions(open_disk=scripted(At("full", "reserve", 1, file="run.1")))
        )
    assert caught.value.code == "checkpoint_full"
    step, model, _ = make(tmp_path, checkpoint_every=1)
    with step:
        reserved = [(tmp_path / f"run.{slot}").stat().st_size for slot in (0, 1)]
        trained(step, batches(norm_and_dropout, 3))
        assert 3 * 4096 < step.wear().checkpoint_bytes <= 3 * (reserved[0] + 4096)
        assert [(tmp_path / f"run.{slot}").stat().st_size for slot in (0, 1)] == reserved
        assert torch.isfinite(model[0].weight).all()


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_checkpoint_that_fails_leaves_the_training_whole(tmp_path: Path, call: str) -> None:
    data = batches(norm_and_dropout, 6)
    script = At("io", call, 5 if call == "write" else 4, file="run.0")
    step, model, optimizer = make(
        tmp_path, checkpoint_every=1, flash=FlashOptions(open_disk=scripted(script))
    )
    losses: list[str] = []
    failed: list[str] = []
    with step:
        while step.steps < 6:
            done = step.steps
            try:
                losses += trained(step, [data[done]])
            except ReplayError as error:
                failed.append(error.code)
                losses.append("unknown")
        assert failed == ["checkpoint_io"]
        expected = eager(norm_and_dropout, data)
        found = outcome(model, optimizer, losses)
        assert (found.state, found.generator) == (expected.state, expected.generator)


def test_a_checkpoint_of_flash_that_lost_data_voids_the_step(tmp_path: Path) -> None:
    script = At("flip", "read", 10**9)
    step, model, _ = make(tmp_path, flash=FlashOptions(open_disk=scripted(script)))
    trained(step, batches(norm_and_dropout, 1))
    step.checkpoint()
    trained(step, batches(norm_and_dropout, 1))
    script.number = script.seen
    with pytest.raises(ReplayError) as caught:
        step.checkpoint()
    assert caught.value.code == "flash_corrupt"
    for door in (lambda: step(*batches(norm_and_dropout, 1)[0]), step.checkpoint, model.state_dict):
        with pytest.raises(ReplayError) as refused:
            door()
        assert refused.value.code == "step_void"
    step.close()
    step, _, _ = make(tmp_path)
    with step:
        assert step.resume().steps == 1


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda step: step.checkpoint(), "checkpoint_too_early"),
        (lambda step: step.notes.update(a=object()) or step.checkpoint(), "checkpoint_value"),
    ],
)
def test_wrong_uses_are_named(
    tmp_path: Path, wrong: Callable[[TrainStep], None], code: str
) -> None:
    step, _, _ = make(tmp_path)
    with step:
        if code == "checkpoint_value":
            trained(step, batches(norm_and_dropout, 1))
        with pytest.raises(UsageError) as caught:
            wrong(step)
        assert caught.value.code == code


def test_an_interval_of_no_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        make(tmp_path, checkpoint_every=0)
    assert caught.value.code == "checkpoint_every"


def test_without_a_path_there_are_no_checkpoints(tmp_path: Path) -> None:
    model, loss_fn, optimizer = mlp_momentum()
    with TrainStep(model, loss_fn, optimizer, batches(mlp_momentum, 1)[0]) as step:
        for door in (step.checkpoint, step.resume):
            with pytest.raises(UsageError) as caught:
                door()
            assert caught.value.code == "no_checkpoint_path"


def test_a_step_that_pages_nothing_has_checkpoints_too(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 4)

    def plain() -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
        model, loss_fn, optimizer = mlp_momentum()
        return (
            TrainStep(
                model, loss_fn, optimizer, data[0], checkpoint_path=tmp_path / "run",
                checkpoint_every=2,
            ),
            model,
            optimizer,
        )  # fmt: skip

    step, _, _ = plain()
    torch.manual_seed(1)
    losses = trained(step, data[:2])
    step.close()
    step, model, optimizer = plain()
    with step:
        step.resume()
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(mlp_momentum, data)
