"""Optimizer updates, one parameter a call, in the least memory and with torch's own bits.

Each rule does the arithmetic of torch.optim's default CPU loop (`_single_tensor_*`; foreach gives
the same bits) in the same order, but in place: where the gradient dies with the update it is the
scratch memory, so an update needs no workspace. `fused=True` calls the same fused kernel as torch.

Invariant: as every rule's (`update_rule`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poet_runtime.update_rule import CountingRule, GroupRule, step_dtype

__all__ = ["AdamRule", "GroupRule", "RmspropRule", "SgdRule"]


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
        if self.structure["momentum"]:
            self._unmake(optimizer, self._fresh)

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
            [torch.full((), count, dtype=step_dtype(fused=True), device=parameter.device)],
            amsgrad=False,
            **{key: numbers[key] for key in ("lr", "beta1", "beta2", "weight_decay", "eps", "maximize")},
        )  # fmt: skip


class RmspropRule(CountingRule):
    """torch.optim.RMSprop: `square_avg`, and `momentum_buffer` and `grad_avg` where asked for.

    The root of the mean square is a tensor of its own while the gradient is still needed, so this
    update has a workspace of one parameter whatever may be overwritten.
    """

    kind = "poet.rmsprop"
    flops_per_element = 14  # decayed mean 3, centring 6, root and division 3, step 2
    temporaries = 1

    def state_keys(self) -> tuple[str, ...]:
        """In the order in which torch.optim makes them."""
        switches = (("momentum", "momentum_buffer"), ("centered", "grad_avg"))
        return "square_avg", *(key for switch, key in switches if self.structure[switch])

    def wants_scratch(self) -> bool:
        return self.structure["maximize"] or self.structure["weight_decay"]

    def update(self, name: str, scratch: bool, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:  # noqa: ARG002 - every rule's signature  # fmt: skip
        """See GroupRule; `state`: as `state_keys` names it."""
        numbers, square_avg = self._numbers, state[0]
        if numbers["maximize"]:
            gradient, scratch = gradient.neg_() if scratch else -gradient, True
        if numbers["weight_decay"]:
            target = gradient if scratch else None
            gradient = torch.add(gradient, parameter, alpha=numbers["weight_decay"], out=target)
        alpha = numbers["alpha"]
        square_avg.mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        if numbers["centered"]:
            grad_avg = state[-1]
            grad_avg.lerp_(gradient, 1 - alpha)
            root = square_avg.addcmul(grad_avg, grad_avg, value=-1).sqrt_()
        else:
            root = square_avg.sqrt()
        root.add_(numbers["eps"])
        if numbers["momentum"]:
            buffer = state[1].mul_(numbers["momentum"]).addcdiv_(gradient, root)
            parameter.add_(buffer, alpha=-numbers["lr"])
        else:
            parameter.addcdiv_(gradient, root, value=-numbers["lr"])
