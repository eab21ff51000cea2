"""The update rule of torch.optim.RMSprop, with momentum and centred or not.

The root of the mean square is a tensor of its own while the gradient is still needed, so this update
has a workspace of one parameter whatever may be overwritten. Invariant: as every rule's (`updates`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from poet_runtime.updates import CountingRule


class RmspropRule(CountingRule):
    """torch.optim.RMSprop: `square_avg`, and `momentum_buffer` and `grad_avg` where asked for."""

    kind = "poet.rmsprop"
    flops_per_element = 14  # decayed mean 3, centring 6, root and division 3, step 2

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
