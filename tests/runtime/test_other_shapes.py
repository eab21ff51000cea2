"""Batches of another size: refused with what was expected, or traced and planned for as they come."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from poet_core.errors import ReplayError, UsageError
from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.replaying.other_shapes import MOST_SHAPES
from tests.runtime.step_parts import (
    Batch,
    batches,
    convolution,
    eager,
    norm_and_dropout,
    outcome,
    tied,
    trained,
)

BUILDS = [norm_and_dropout, convolution, tied]


def mixed(build: Any, *rows: int) -> list[Batch]:
    made = {count: iter(batches(build, len(rows), rows=count)) for count in set(rows)}
    return [next(made[count]) for count in rows]


def replanning(
    build: Any, example: Batch, folder: Path, **options: Any
) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
    """Under keep-everything's peak, and near the floor of the convolution."""
    model, loss_fn, optimizer = build()
    with TrainStep(model, loss_fn, optimizer, example) as kept:
        peak = kept.judgement.peak_bytes
    model, loss_fn, optimizer = build()
    step = TrainStep(
        model, loss_fn, optimizer, example, device="raspberry-pi-4b", ram=peak * 85 // 100,
        wall_seconds=1, paging_directory=folder, on_new_shape="replan", **options,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


def test_the_error_says_what_was_expected_what_came_and_what_to_do() -> None:
    data = mixed(norm_and_dropout, 8, 3)
    model, loss_fn, optimizer = norm_and_dropout()
    with TrainStep(model, loss_fn, optimizer, data[0]) as step, pytest.raises(UsageError) as caught:
        step(*data[1])
    assert caught.value.code == "batch_mismatch"
    assert "(8, 20)" in caught.value.message
    assert "(3, 20)" in caught.value.message
    assert "drop_last" in caught.value.hint
    assert "replan" in caught.value.hint


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_shapes_that_come_and_go(build: Any, tmp_path: Path) -> None:
    data = mixed(build, 8, 3, 8, 8, 5, 3, 3, 8, 5)
    step, model, optimizer = replanning(build, data[0], tmp_path)
    with step:
        losses = trained(step, data)
        assert step.steps == len(data)
        assert outcome(model, optimizer, losses) == eager(build, data)
        assert step.wear().steps == len(data)


def test_the_last_batch_of_an_epoch(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    data = TensorDataset(
        torch.randn(29, 20, generator=generator), torch.randint(0, 10, (29,), generator=generator)
    )

    def epochs() -> list[Any]:
        loader = DataLoader(data, batch_size=8, shuffle=True, generator=torch.Generator())
        loader.generator.manual_seed(4)
        return [tuple(batch) for _ in range(2) for batch in loader]

    step, model, optimizer = replanning(norm_and_dropout, epochs()[0], tmp_path)
    with step:
        assert outcome(model, optimizer, trained(step, epochs())) == eager(
            norm_and_dropout, epochs()
        )


def test_each_shape_is_planned_once_and_for_the_same_budget(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8, 3, 8, 3)
    step, _, _ = replanning(norm_and_dropout, data[0], tmp_path)
    with step:
        trained(step, data[:2])
        assert step._others is not None
        (other,) = step._others._steps.values()
        trained(step, data[2:])
        assert list(step._others._steps.values()) == [other]
        assert other.plan.budget.ram_bytes == step.plan.budget.ram_bytes
        assert other.judgement.peak_bytes < step.judgement.peak_bytes


def test_a_round_of_micro_batches_of_several_shapes(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8, 3, 8, 8, 8, 3, 3, 8, 8)
    step, model, optimizer = replanning(
        norm_and_dropout, data[0], tmp_path, accumulate=3, clip_norm=0.5
    )
    with step:
        losses = trained(step, data)
        found = outcome(model, optimizer, losses)
        assert step.steps == 3
    model, loss_fn, optimizer = norm_and_dropout()
    torch.manual_seed(1)
    losses = []
    for number, (inputs, labels) in enumerate(data):
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        losses.append(loss.item().hex())
        if number % 3 == 2:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
    assert found == outcome(model, optimizer, losses)


def test_checkpoints_and_looks_in_between(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8, 3, 5, 8, 3, 8)
    options = {"checkpoint_path": tmp_path / "checkpoint", "checkpoint_every": 3}
    step, model, _ = replanning(norm_and_dropout, data[0], tmp_path, **options)
    with step:
        first = trained(step, data[:2])
        model.state_dict()
        first += trained(step, data[2:5])
    step, model, optimizer = replanning(norm_and_dropout, data[0], tmp_path, **options)
    with step:
        assert step.resume().steps == 3
        losses = first[:3] + trained(step, data[3:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_another_structure_is_refused_even_so(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8, 3)
    step, _, _ = replanning(norm_and_dropout, data[0], tmp_path)
    inputs, labels = data[1]
    with step:
        for batch in [(inputs,), (inputs.double(), labels), (inputs[0], labels), (inputs, 1)]:
            with pytest.raises(UsageError) as caught:
                step(*batch)
            assert caught.value.code == "batch_mismatch"


def test_a_fault_under_another_shape_voids_the_whole(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8, 3, 3)
    threads = threading.active_count()
    step, _, _ = replanning(norm_and_dropout, data[0], tmp_path)
    trained(step, data[:2])
    assert step._others is not None
    (other,) = step._others._steps.values()

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("kernel gave up")

    other.running.compiled = fail  # type: ignore[assignment]
    for batch, code in ((data[2], "step_failed"), (data[2], "step_void"), (data[0], "step_void")):
        with pytest.raises(ReplayError) as caught:
            step(*batch)
        assert caught.value.code == code
    step.close()
    assert threading.active_count() == threads


def test_only_so_many_shapes_are_kept() -> None:
    rows = [8, *range(1, MOST_SHAPES + 3), 2, 3, 8]
    data = mixed(tied, *rows)
    model, loss_fn, optimizer = tied()
    with TrainStep(model, loss_fn, optimizer, data[0], on_new_shape="replan") as step:
        torch.manual_seed(1)
        found = outcome(model, optimizer, trained(step, data))
        assert step._others is not None
        assert len(step._others._steps) == MOST_SHAPES
        assert step.wear().steps == len(data)
    assert found == eager(tied, data)


def test_choices_that_are_none(tmp_path: Path) -> None:
    data = mixed(norm_and_dropout, 8)
    built = norm_and_dropout()
    for options, code in (
        ({"on_new_shape": "ignore"}, "on_new_shape_invalid"),
        (
            {"on_new_shape": "replan", "flash": FlashOptions(file=tmp_path / "file")},
            "replan_needs_directory",
        ),
    ):
        with pytest.raises(UsageError) as caught:
            TrainStep(*built, data[0], **options)  # type: ignore[arg-type]
        assert caught.value.code == code
