"""Optimizers in a paged TrainStep: groups of every kind, and hyperparameters that change between
steps without a new plan. Everything leaves RAM after every op, so a stale copy would show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import ReplayError
from tests.runtime.step_parts import batches, eager, mlp_momentum, outcome, paged, trained

Optimizers = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
STEPS = 5
DATA = batches(mlp_momentum, STEPS)

GROUPS: dict[str, Optimizers] = {
    "sgd": lambda p: torch.optim.SGD(
        [
            {"params": p[:1], "lr": 0.2, "momentum": 0.9, "nesterov": True},
            {"params": p[1:2], "momentum": 0.5, "dampening": 0.3, "weight_decay": 0.1},
            {"params": p[2:3], "maximize": True},
            {"params": p[3:]},
        ],
        lr=0.05,
    ),
    "adam": lambda p: torch.optim.Adam(
        [
            {"params": p[:2], "lr": 0.02, "betas": (0.7, 0.9), "weight_decay": 0.1},
            {"params": p[2:], "eps": 1e-5, "maximize": True},
        ]
    ),
    "adamw": lambda p: torch.optim.AdamW(
        [
            {"params": p[::2], "weight_decay": 0.3},
            {"params": p[1::2], "weight_decay": 0.0, "lr": torch.tensor(0.02)},
        ],
        lr=0.01,
    ),
    "rmsprop": lambda p: torch.optim.RMSprop(
        [
            {"params": p[:2], "centered": True, "momentum": 0.9, "weight_decay": 0.1},
            {"params": p[2:3], "alpha": 0.5, "momentum": 0.3},
            {"params": p[3:], "maximize": True},
        ],
        lr=0.01,
    ),
}


def built(name: str) -> Callable[[], tuple[nn.Module, Any, torch.optim.Optimizer]]:
    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        return model, loss_fn, GROUPS[name](list(model.parameters()))

    return build


def change_values(number: int, _model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Every number of every group, none of them switched on or off."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].mul_(0.5)
        else:
            group["lr"] *= 0.5
        for key in ("momentum", "weight_decay", "dampening", "alpha", "eps"):
            if group.get(key):
                group[key] *= 0.9
        if "betas" in group:
            group["betas"] = (group["betas"][0] * 0.9, 0.9 + 0.01 * number)


@pytest.mark.parametrize("name", GROUPS)
def test_groups_whose_values_change_between_steps(name: str, tmp_path: Path) -> None:
    build = built(name)
    step, model, optimizer = paged(build, DATA[0], tmp_path)
    with step:
        losses = []
        for number, batch in enumerate(DATA):
            losses += trained(step, [batch])
            change_values(number, model, optimizer)
        found = outcome(model, optimizer, losses)
    assert found == eager(build, DATA, after=change_values)
    assert found != eager(build, DATA)


@pytest.mark.parametrize("name", ["sgd", "adamw", "rmsprop"])
def test_a_scheduler_of_torch_with_a_rate_for_each_group(name: str, tmp_path: Path) -> None:
    def scheduler(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        rates = [
            lambda epoch, at=at: 1 / (1 + epoch * at) for at in range(len(optimizer.param_groups))
        ]
        return torch.optim.lr_scheduler.LambdaLR(optimizer, rates)

    build = built(name)
    step, model, optimizer = paged(build, DATA[0], tmp_path)
    schedules: dict[int, torch.optim.lr_scheduler.LRScheduler] = {}

    def after(_number: int, _model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        schedules[id(optimizer)].step()

    def build_with_schedule() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        made = build()
        schedules[id(made[2])] = scheduler(made[2])
        return made

    with step:
        schedule = scheduler(optimizer)
        losses = []
        for batch in DATA:
            losses += trained(step, [batch])
            schedule.step()
        found = outcome(model, optimizer, losses)
    assert found == eager(build_with_schedule, DATA, after=after)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sgd", {"momentum": 0.0, "nesterov": False}),
        ("adam", {"weight_decay": 0.0}),
        ("rmsprop", {"centered": False}),
    ],
)
def test_switching_something_off_is_refused_before_anything_happens(
    name: str, change: dict[str, Any], tmp_path: Path
) -> None:
    build = built(name)
    step, model, optimizer = paged(build, DATA[0], tmp_path)
    with step:
        losses = trained(step, DATA[:2])
        before = dict(optimizer.param_groups[0])
        optimizer.param_groups[0].update(change)
        with pytest.raises(ReplayError) as caught:
            step(*DATA[2])
        assert caught.value.code == "optimizer_changed"
        optimizer.param_groups[0].update(before)
        losses += trained(step, DATA[2:])
        assert outcome(model, optimizer, losses) == eager(build, DATA)
