"""Dropout with eager's bits and a mask of one byte an element.

PyTorch exports native_dropout, which multiplies by 1/(1-p) in double precision; eager's CPU dropout
multiplies by that number rounded to the tensor's type (float32 at p = 0.15 and bfloat16 at p = 0.1
show the difference), and its gradient lies as products do. So the backward op is exported as the
product of gradient and mask, which only it reads, and both ops are then carried out as eager does
it. The same numbers are drawn. Requires drafts in a valid order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from poet_core.graph import Phase
from poet_runtime.program import TensorSpec
from poet_runtime.tracing.drafts import Draft

_aten = torch.ops.aten


def _unscaled(gradient: Tensor, mask: Tensor, _scale: float) -> Tensor:
    return gradient * mask


def exported_as(
    device: torch.device,
) -> dict[torch._ops.OpOverload[..., Any], Callable[..., Any]]:
    """What the export is to put in the place of operators. On a GPU eager's dropout is itself
    native_dropout, a fused kernel, and stays as exported."""
    return {} if device.type != "cpu" else {_aten.native_dropout_backward.default: _unscaled}


def exact_dropout(drafts: Sequence[Draft], device: torch.device) -> list[Draft]:
    """The drafts with both passes of dropout as eager computes them."""
    if device.type != "cpu":
        return list(drafts)
    rate_of: dict[int, float] = {}
    result: list[Draft] = []
    for draft in drafts:
        mask = draft.args[1] if len(draft.args) > 1 else None
        if draft.kind == str(_aten.native_dropout.default) and draft.args[2]:
            values, rate, _ = draft.args
            drawn = draft.outputs[1]
            assert drawn is not None, "nothing has been pruned yet"
            rate_of[drawn.storage] = rate
            result.append(replace(draft, function=dropout, args=(values, rate)))
        elif (
            draft.phase is Phase.BACKWARD
            and isinstance(mask, TensorSpec)
            and mask.storage in rate_of
        ):
            args = (draft.args[0], mask, rate_of[mask.storage])
            kind = str(_aten.native_dropout_backward.default)
            result.append(replace(draft, kind=kind, function=dropout_backward, args=args))
        else:
            result.append(draft)
    return result


def dropout(values: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """The values that stay, scaled, and which ones do. A rate of 1 draws nothing, as in torch."""
    mask = torch.empty_like(values, dtype=torch.bool)
    if rate == 1.0:
        return values.mul(mask.zero_()), mask
    mask.bernoulli_(1 - rate)
    return values.mul(mask).mul_(_scale(rate, values.dtype)), mask


def dropout_backward(gradient: Tensor, mask: Tensor, rate: float) -> Tensor:
    """The gradient of `dropout` with respect to its values."""
    kept = gradient.mul(mask)
    return kept if rate == 1.0 else kept.mul_(_scale(rate, gradient.dtype))


@cache
def _scale(rate: float, dtype: torch.dtype) -> float:
    """1/(1 - rate) as eager has it: one, divided in the type of the values."""
    return float(torch.ones((), dtype=dtype, device="cpu").div_(1 - rate))
