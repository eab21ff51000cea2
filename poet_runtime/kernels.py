"""Where PyTorch 2.13's shape functions are wrong about its CPU kernels, and what is true.

Found by comparing fake and real outputs; `measure` makes that comparison for every op that it
runs, so an op that belongs here and is missing is an error there, not a wrong plan.

* Normalisation of half-precision inputs under float32 weights (autocast): the statistics are
  float32, the shape functions say half. Group norm's backward is the other way round.
* Some losses reduce inside a block of the size of their input and return a scalar that owns all of
  it. `CompactOutput` copies the scalar out, so that the loss does not hold the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


class CompactOutput:
    """An operator whose output is copied where it owns more bytes than it has elements."""

    __slots__ = ("operator",)

    def __init__(self, operator: Callable[..., Tensor]) -> None:
        self.operator = operator

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        output = self.operator(*args, **kwargs)
        return output if output.untyped_storage().nbytes() == output.nbytes else output.clone()


def runnable(op: torch._ops.OpOverload) -> Callable[..., Any]:
    """The operator, so that each output owns a storage of its own size."""
    oversized = (
        _aten.mse_loss,
        _aten.smooth_l1_loss,
        _aten.binary_cross_entropy,
        _aten.soft_margin_loss,
    )
    return CompactOutput(op) if op.overloadpacket in oversized else op


def true_output(op: torch._ops.OpOverload, args: tuple[Any, ...], output: Any) -> Any:
    """The fake output with the dtypes that the CPU kernel gives."""
    dtypes = _true_dtypes(op, args)
    if not dtypes:
        return output
    return tuple(
        item if item is None or item.dtype == dtypes.get(position, item.dtype)
        else torch.empty_strided(
            item.size(), item.stride(), dtype=dtypes[position], device=item.device
        )
        for position, item in enumerate(output)
    )  # fmt: skip


def _true_dtypes(op: torch._ops.OpOverload, args: tuple[Any, ...]) -> Mapping[int, torch.dtype]:
    """By position among the outputs; nothing where the shape function is right."""
    packet = op.overloadpacket
    if packet is _aten.native_layer_norm:
        statistics = _first_dtype(args[2], args[3], args[0])
        return {1: statistics, 2: statistics}
    if packet is _aten.native_group_norm:
        statistics = _first_dtype(args[1], args[2], args[0])
        return {1: statistics, 2: statistics}
    if packet is _aten._native_batch_norm_legit_functional:
        statistics = _first_dtype(args[1], args[2], args[0])
        return {1: statistics, 2: statistics, 3: args[3].dtype, 4: args[4].dtype}
    if packet is _aten.native_group_norm_backward:
        return {0: args[1].dtype}
    return {}


def _first_dtype(*tensors: Tensor | None) -> torch.dtype:
    return next(tensor.dtype for tensor in tensors if tensor is not None)
