"""Update rules: counted steps, switches that may not move, scratch that is really scratch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.errors import ReplayError
from poet_runtime.tracing.measure import allocator_peak
from poet_runtime.update_rule import GroupRule
from poet_runtime.updates import AdamRule, RmspropRule, SgdRule
from tests.runtime.interpreter import bits

ELEMENTS = 4099  # not a multiple of any vector width: the tail is computed too


def parameter_and_gradients(steps: int) -> tuple[nn.Parameter, list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    gradients = [torch.randn(ELEMENTS, generator=generator) for _ in range(steps)]
    gradients[0][:3] = torch.tensor([0.0, -0.0, 1e-40])
    return nn.Parameter(torch.randn(ELEMENTS, generator=generator)), gradients


def run(rule: GroupRule, optimizer: Any, parameter: Tensor, gradients: list[Tensor], *, scratch: bool) -> list[Tensor]:  # fmt: skip
    value = parameter.detach().clone()
    state = [torch.zeros_like(value) for _ in rule.state_keys()]
    for gradient in gradients:
        rule.begin_step(optimizer)
        rule.update("weight", scratch, value, gradient.clone(), *state)
        rule.end_step()
    return [value, *state]


CASES: dict[str, tuple[type[GroupRule], type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (SgdRule, torch.optim.SGD, {"lr": 0.1}),
    "sgd all": (SgdRule, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True,
                                           "weight_decay": 0.01, "maximize": True}),
    "dampening": (SgdRule, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
    "adam": (AdamRule, torch.optim.Adam, {"lr": 0.01}),
    "adam all": (AdamRule, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    "adamw": (AdamRule, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop": (RmspropRule, torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1}),
    "rmsprop all": (RmspropRule, torch.optim.RMSprop, {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9,
                                                       "centered": True, "maximize": True}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scratch", [False, True])
def test_the_same_bits_as_torch(name: str, scratch: bool) -> None:
    rule_type, optimizer_type, options = CASES[name]
    parameter, gradients = parameter_and_gradients(4)
    optimizer: Any = optimizer_type([parameter], **options)
    rule = rule_type(0, {"weight": 0}, optimizer)
    found = run(rule, optimizer, parameter, gradients, scratch=scratch)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    state = [optimizer.state[parameter][key] for key in rule.state_keys()]
    assert [bits(value) for value in found] == [bits(v.detach()) for v in (parameter, *state)]


@pytest.mark.parametrize("name", CASES)
def test_with_scratch_an_update_allocates_no_more_than_the_rule_must(name: str) -> None:
    rule_type, optimizer_type, options = CASES[name]
    parameter, (gradient,) = parameter_and_gradients(1)
    optimizer: Any = optimizer_type([parameter], **options)
    rule = rule_type(0, {"weight": 0}, optimizer)
    state = [torch.zeros(ELEMENTS) for _ in rule.state_keys()]
    value = parameter.detach()

    def call(*, scratch: bool) -> int:
        return allocator_peak(lambda: rule.update("weight", scratch, value, gradient, *state))

    # RMSprop's root is a tensor of its own: the gradient is needed beside it.
    least = 4 * ELEMENTS if rule_type is RmspropRule else 0
    assert least <= call(scratch=True) <= least + 64
    # and without scratch more only where the rule says that it would help
    assert (call(scratch=False) >= least + 4 * ELEMENTS) == rule.wants_scratch()


def test_without_scratch_the_gradient_stays() -> None:
    for rule_type, optimizer_type, options in CASES.values():
        parameter, (gradient,) = parameter_and_gradients(1)
        optimizer: Any = optimizer_type([parameter], **options)
        rule = rule_type(0, {"weight": 0}, optimizer)
        before = bits(gradient)
        state = [torch.zeros(ELEMENTS) for _ in rule.state_keys()]
        rule.update("weight", False, parameter.detach(), gradient, *state)
        assert bits(gradient) == before


def test_steps_are_counted_once_and_written_as_torch_keeps_them() -> None:
    parameter, gradients = parameter_and_gradients(2)
    optimizer = torch.optim.Adam([parameter])
    rule = AdamRule(0, {"weight": 0}, optimizer)
    run(rule, optimizer, parameter, gradients, scratch=True)
    rule.store(optimizer)
    step = optimizer.state[parameter]["step"]
    assert step.dtype == torch.float32
    assert step.item() == 2.0
    resumed = AdamRule(0, {"weight": 0}, optimizer)
    resumed.end_step()
    resumed.store(optimizer)
    assert optimizer.state[parameter]["step"] is step
    assert step.item() == 3.0


def test_a_void_step_counts_nothing() -> None:
    parameter, (gradient,) = parameter_and_gradients(1)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, dampening=0.5)
    rule = SgdRule(0, {"weight": 0}, optimizer)
    value, buffer = parameter.detach().clone(), torch.zeros(ELEMENTS)
    rule.begin_step(optimizer)
    rule.update("weight", True, value, gradient.clone(), buffer)
    value, buffer = parameter.detach().clone(), torch.zeros(ELEMENTS)
    rule.begin_step(optimizer)
    rule.update("weight", True, value, gradient.clone(), buffer)
    # again the first step: a copy, not a dampened sum
    assert bits(buffer) == bits(gradient)


@pytest.mark.parametrize("change", [{"momentum": 0.0}, {"weight_decay": 0.1}, {"maximize": True}])
def test_what_decides_the_storages_may_not_change(change: dict[str, Any]) -> None:
    parameter, _ = parameter_and_gradients(1)
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    rule = SgdRule(0, {"weight": 0}, optimizer)
    optimizer.param_groups[0]["momentum"] = 0.8
    rule.begin_step(optimizer)
    optimizer.param_groups[0].update(change)
    with pytest.raises(ReplayError) as caught:
        rule.begin_step(optimizer)
    assert caught.value.code == "optimizer_changed"
