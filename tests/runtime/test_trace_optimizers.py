"""A traced step updates as eager PyTorch does, bit for bit: every optimizer, scheduled or resumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.graph import Phase
from tests.runtime.interpreter import eager_step
from tests.runtime.trace_parts import STEPS, check_like_eager, small_batches, small_net

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1),
    "sgd maximize": lambda p: torch.optim.SGD(p, lr=0.1, maximize=True, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "momentum dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.2, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam decay": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, maximize=True),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.01, foreach=True),
    "adam tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, betas=(0.8, 0.95)),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "rmsprop decay": lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.1, maximize=True),
    "rmsprop momentum": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, alpha=0.9),
    "rmsprop centered": lambda p: torch.optim.RMSprop(
        p, lr=0.01, momentum=0.9, centered=True, weight_decay=0.1
    ),
    "rmsprop foreach": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, foreach=True),
    "groups": lambda p: torch.optim.AdamW(
        [{"params": p[:1], "lr": 0.1}, {"params": p[1:], "weight_decay": 0.0}], lr=0.01
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_with_a_scheduler(name: str) -> None:
    model = small_net()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    program = check_like_eager(
        model,
        nn.functional.mse_loss,
        optimizer,
        small_batches(),
        lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5),
    )
    updates = [op for op in program.graph.ops if op.phase is Phase.UPDATE]
    assert len(updates) == 4
    if "rmsprop" not in name:  # its root needs a tensor of its own
        assert max(op.workspace_bytes for op in updates) <= 64


@pytest.mark.parametrize(
    "name", ["momentum dampening", "adam", "adamw fused", "sgd fused", "rmsprop centered"]
)
def test_an_optimizer_that_has_trained_already_goes_on(name: str) -> None:
    model = small_net()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    for batch in small_batches(2):
        eager_step(model, nn.functional.mse_loss, optimizer, batch)
    check_like_eager(model, nn.functional.mse_loss, optimizer, small_batches())


def test_frozen_and_unused_parameters_stay_and_get_no_update() -> None:
    model = small_net()
    model[0].weight.requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: Tensor) -> Tensor:
            for name, layer in self.inner.named_children():
                inputs = layer(inputs) if name.isdigit() else inputs
            return inputs

    program = check_like_eager(Outer(), nn.functional.mse_loss, optimizer, small_batches())
    updated = {op.name for op in program.graph.ops if op.phase is Phase.UPDATE}
    assert updated == {f"inner.{name}.update" for name in ("0.bias", "2.weight", "2.bias")}
    persistent = {s.name for s in program.graph.storages if s.persistent}
    assert {"inner.unused", "inner.0.weight"} <= persistent


def test_a_gradient_that_two_updates_read_is_overwritten_by_neither_too_early() -> None:
    class Twins(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.randn(7))
            self.two = nn.Parameter(torch.randn(7))

        def forward(self, inputs: Tensor) -> Tensor:
            return inputs * (self.one + self.two)

    torch.manual_seed(1)
    model = Twins()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    batches = [(torch.randn(7), None) for _ in range(STEPS)]
    program = check_like_eager(model, lambda out, _: out.sum(), optimizer, batches)
    first, second = [op for op in program.graph.ops if op.phase is Phase.UPDATE]
    (gradient,) = first.reads
    assert gradient in second.mutates


def test_half_precision_parameters() -> None:
    model = small_net().to(torch.bfloat16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batches = [(x.bfloat16(), y.bfloat16()) for x, y in small_batches()]
    check_like_eager(model, nn.functional.mse_loss, optimizer, batches)
