"""Which update rule an optimizer gets, and which optimizers the tracer says no to.

Supported: exactly torch.optim.SGD, Adam, AdamW and RMSprop, each group with its own hyperparameters. A
subclass may do anything in `step`, so it is refused rather than traced as its parent.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from poet_core.errors import TraceError
from poet_runtime.update_rule import GroupRule
from poet_runtime.updates import AdamRule, RmspropRule, SgdRule

_RULES: Mapping[type[torch.optim.Optimizer], type[GroupRule]] = {
    torch.optim.SGD: SgdRule,
    torch.optim.Adam: AdamRule,
    torch.optim.AdamW: AdamRule,
    torch.optim.RMSprop: RmspropRule,
}
_REFUSED_SWITCHES = ("amsgrad", "capturable", "differentiable")


def check_optimizer(optimizer: object) -> torch.optim.Optimizer:
    """The optimizer, or TraceError (`optimizer_unsupported`, `optimizer_hooks`)."""
    if not isinstance(optimizer, torch.optim.Optimizer) or type(optimizer) not in _RULES:
        names = ", ".join(kind.__name__ for kind in _RULES)
        raise TraceError(
            f"Expected an optimizer of torch.optim: {names}; got {type(optimizer).__name__}.",
            code="optimizer_unsupported",
            hint=f"Use one of {names}, not a subclass.",
        )
    for index, group in enumerate(optimizer.param_groups):
        _check_group(index, group)
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise TraceError(
            "Expected an optimizer without step hooks, got one that has some.",
            code="optimizer_hooks",
            hint="Updates run one by one inside the step; do the hook's work around the step.",
        )
    return optimizer


def _check_group(index: int, group: Mapping[str, Any]) -> None:
    for switch in _REFUSED_SWITCHES:
        if group.get(switch):
            raise TraceError(
                f"Expected an optimizer without {switch}, got {switch}=True in group {index}.",
                code="optimizer_unsupported",
                hint=f"Leave {switch} off.",
            )
    numbers = {key: value for key, value in group.items() if key not in ("params", "lr")}
    for key, value in numbers.items():
        items = value if isinstance(value, tuple | list) else (value,)
        if any(isinstance(item, torch.Tensor) for item in items):
            raise TraceError(
                f"Expected {key} of group {index} to be a number, got a tensor.",
                code="optimizer_unsupported",
                hint="Only the learning rate may be a tensor.",
            )


def rules_for(
    optimizer: torch.optim.Optimizer, model: nn.Module, trained: Collection[str]
) -> list[tuple[GroupRule, tuple[str, ...]]]:
    """A rule for each parameter group, with the names of those of its parameters that train.

    `trained`: names of the parameters that get a gradient; the others get no update, as in torch.
    Raises TraceError (`parameter_unknown`) for a parameter that is not the model's.
    """
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    rules: list[tuple[GroupRule, tuple[str, ...]]] = []
    for index, group in enumerate(optimizer.param_groups):
        positions: dict[str, int] = {}
        for position, parameter in enumerate(group["params"]):
            name = name_of.get(id(parameter))
            if name is None:
                raise TraceError(
                    f"Expected the optimizer to hold parameters of the model, got another one in "
                    f"group {index} at position {position}, of shape {tuple(parameter.shape)}.",
                    code="parameter_unknown",
                    hint="Build the optimizer from model.parameters(); if the loss has parameters, "
                    "make it a submodule of the model.",
                )
            if name in trained:
                positions[name] = position
        if positions:
            rule = _RULES[type(optimizer)](index, positions, optimizer)
            rules.append((rule, tuple(positions)))
    return rules


def places_in(rules: Sequence[tuple[GroupRule, tuple[str, ...]]]) -> dict[str, tuple[int, int]]:
    """Group and position in the optimizer of each parameter that trains."""
    return {name: place for rule, _ in rules for name, place in rule.places().items()}


def state_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, key: str) -> Any:
    """The optimizer's state tensor, or None where it does not exist yet."""
    return optimizer.state.get(parameter, {}).get(key)
