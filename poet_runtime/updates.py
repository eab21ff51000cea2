"""Optimizer updates, one parameter a call, in the least memory and with torch's own bits.

Each rule does the arithmetic of torch.optim's default CPU loop (`_single_tensor_*`; foreach gives
the same bits) in the same order, but in place: where the gradient dies with the update it is the
scratch memory, so an update needs no workspace. `fused=True` calls the same fused kernel as torch.

Invariant: a rule holds numbers only (a learning rate may be a 0-d tensor) and a call changes nothing
but its tensor arguments. Which storages a call touches is fixed when traced; hyperparameters that decide it (`momentum` on or off,
`weight_decay` on or off, `nesterov`, `maximize`, `centered`, `fused`) may not change afterwards.

    GroupRule
    ├── SgdRule
    └── CountingRule          counts the steps of each parameter
        ├── AdamRule
        └── RmspropRule       (rmsprop)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from poet_core.errors import ReplayError


class GroupRule:
    """What the rules share: one parameter group of one optimizer."""

    kind = ""
    flops_per_element = 0

    def __init__(self, group_index: int, names: Mapping[str, int], optimizer: Any) -> None:
        """`names`: the parameters that train, each with its position in the group."""
        self._group_index = group_index
        self._positions = dict(names)
        self._numbers: dict[str, Any] = {}
        self.structure = self._switches_of(self._group(optimizer))
        self.load(optimizer)
        self.begin_step(optimizer)

    def load(self, optimizer: Any) -> None:
        """Takes over step counts and which state exists; see `program.UpdateRule`."""
        raise NotImplementedError

    def begin_step(self, optimizer: Any) -> None:
        """Reads the hyperparameters; ReplayError (`optimizer_changed`) where the structure did."""
        group = self._group(optimizer)
        if self._switches_of(group) != self.structure:
            raise ReplayError(
                f"Parameter group {self._group_index}: expected {self.structure} as when the "
                f"step was traced, got {self._switches_of(group)}.",
                code="optimizer_changed",
                hint="Trace again after switching one of these on or off; their values may change.",
            )
        self._numbers = {
            # A learning rate that is a tensor stays one: its float32 arithmetic is part of the bits.
            key: value.detach().squeeze() if isinstance(value, Tensor) else value
            for key, value in group.items()
            if key not in ("params", "betas")
        }
        if "betas" in group:
            self._numbers["beta1"], self._numbers["beta2"] = map(float, group["betas"])

    def end_step(self) -> None:
        """Counts a completed step."""
        raise NotImplementedError

    def store(self, optimizer: Any) -> None:
        """Writes step counts back."""
        raise NotImplementedError

    def state_keys(self) -> tuple[str, ...]:
        """The state tensors of each parameter, in the order in which `update` takes them."""
        raise NotImplementedError

    def wants_scratch(self) -> bool:
        """Whether an update is cheaper when it may overwrite the gradient."""
        raise NotImplementedError

    def update(self, name: str, scratch: bool, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:  # fmt: skip
        """Updates one parameter in place. `scratch`: the gradient may be overwritten."""
        raise NotImplementedError

    def _group(self, optimizer: Any) -> dict[str, Any]:
        group: dict[str, Any] = optimizer.param_groups[self._group_index]
        return group

    def _state(self, optimizer: Any, name: str) -> Mapping[str, Any]:
        parameter = self._group(optimizer)["params"][self._positions[name]]
        state: Mapping[str, Any] = optimizer.state.get(parameter, {})
        return state

    @staticmethod
    def _switches_of(group: Mapping[str, Any]) -> dict[str, bool]:
        switches = (
            "momentum",
            "weight_decay",
            "nesterov",
            "maximize",
            "fused",
            "amsgrad",
            "centered",
        )
        return {key: bool(group[key]) for key in switches if key in group}


class SgdRule(GroupRule):
    """torch.optim.SGD. The first momentum step copies the gradient instead of decaying zeros."""

    kind = "poet.sgd"
    flops_per_element = 6  # momentum and weight decay, two each, and the step's two

    def load(self, optimizer: Any) -> None:
        self._fresh = {
            name
            for name in self._positions
            if self._state(optimizer, name).get("momentum_buffer") is None
        }

    def end_step(self) -> None:
        self._fresh.clear()

    def store(self, optimizer: Any) -> None:
        """SGD counts nothing."""

    def state_keys(self) -> tuple[str, ...]:
        return ("momentum_buffer",) if self.structure["momentum"] else ()

    def wants_scratch(self) -> bool:
        changes = ("weight_decay", "nesterov", "maximize")
        return not self.structure["fused"] and any(self.structure[key] for key in changes)

    def update(self, name: str, scratch: bool, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:  # fmt: skip
        """See GroupRule; `state`: the momentum buffer where there is momentum."""
        numbers = self._numbers
        if numbers["fused"]:
            self._fused(name, parameter, gradient, state)
            return
        if numbers["maximize"]:
            gradient, scratch = gradient.neg_() if scratch else -gradient, True
        if numbers["weight_decay"]:
            decay = numbers["weight_decay"]
            target = gradient if scratch else None
            gradient, scratch = torch.add(gradient, parameter, alpha=decay, out=target), True
        if state:
            (buffer,) = state
            if name in self._fresh:
                buffer.copy_(gradient)
            else:
                buffer.mul_(numbers["momentum"]).add_(gradient, alpha=1 - numbers["dampening"])
            if numbers["nesterov"]:
                target = gradient if scratch else None
                gradient = torch.add(gradient, buffer, alpha=numbers["momentum"], out=target)
            else:
                gradient = buffer
        parameter.add_(gradient, alpha=-numbers["lr"])

    def _fused(self, name: str, parameter: Tensor, gradient: Tensor, state: Sequence[Tensor]) -> None:  # fmt: skip
        keys = ("weight_decay", "momentum", "lr", "dampening", "nesterov", "maximize")
        torch._fused_sgd_(
            [parameter],
            [gradient],
            list(state),
            is_first_step=bool(state) and name in self._fresh,
            **{key: self._numbers[key] for key in keys},
        )


class CountingRule(GroupRule):
    """What rules share whose optimizer counts the steps of each parameter."""

    def load(self, optimizer: Any) -> None:
        self._steps = {
            name: float(self._state(optimizer, name).get("step", 0.0)) for name in self._positions
        }

    def end_step(self) -> None:
        self._steps = {name: count + 1 for name, count in self._steps.items()}

    def store(self, optimizer: Any) -> None:
        dtype = _step_dtype(fused=self.structure.get("fused", False))
        group = self._group(optimizer)
        for name, count in self._steps.items():
            state = optimizer.state[group["params"][self._positions[name]]]
            step = state.get("step")
            if isinstance(step, Tensor):
                step.fill_(count)
            else:
                state["step"] = torch.tensor(count, dtype=dtype)


class AdamRule(CountingRule):
    """torch.optim.Adam and AdamW: both moments, decoupled weight decay for AdamW."""

    kind = "poet.adam"
    flops_per_element = 14  # two decayed means 6, root and divisions 4, step 2, weight decay 2

    def state_keys(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    def wants_scratch(self) -> bool:
        return not self.structure["fused"]

    def update(self, name: str, scratch: bool, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:  # fmt: skip
        """See GroupRule; `state`: exp_avg and exp_avg_sq."""
        numbers, count = self._numbers, self._steps[name] + 1
        exp_avg, exp_avg_sq = state
        if numbers["fused"]:
            self._fused(count, parameter, gradient, exp_avg, exp_avg_sq)
            return
        if numbers["maximize"]:
            gradient, scratch = gradient.neg_() if scratch else -gradient, True
        decay, lr = numbers["weight_decay"], numbers["lr"]
        if decay and numbers["decoupled_weight_decay"]:
            parameter.mul_(1 - lr * decay)
        elif decay:
            target = gradient if scratch else None
            gradient, scratch = torch.add(gradient, parameter, alpha=decay, out=target), True
        beta1, beta2 = numbers["beta1"], numbers["beta2"]
        exp_avg.lerp_(gradient, 1 - beta1)
        exp_avg_sq.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        # The gradient's last use was above: the denominator takes its place.
        denominator = torch.sqrt(exp_avg_sq, out=gradient if scratch else None)
        denominator.div_((1 - beta2**count) ** 0.5).add_(numbers["eps"])
        parameter.addcdiv_(exp_avg, denominator, value=-(lr / (1 - beta1**count)))

    def _fused(self, count: float, parameter: Tensor, gradient: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor) -> None:  # fmt: skip
        numbers = self._numbers
        decoupled = numbers["decoupled_weight_decay"]
        kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        kernel(
            [parameter],
            [gradient],
            [exp_avg],
            [exp_avg_sq],
            [],
            [torch.tensor(count, dtype=_step_dtype(fused=True))],
            amsgrad=False,
            **{key: numbers[key] for key in ("lr", "beta1", "beta2", "weight_decay", "eps", "maximize")},
        )  # fmt: skip


def _step_dtype(*, fused: bool) -> torch.dtype:
    """The dtype in which torch.optim keeps step counts (`_get_scalar_dtype`, torch 2.13)."""
    double = not fused and torch.get_default_dtype() == torch.float64
    return torch.float64 if double else torch.float32
