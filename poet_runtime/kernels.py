"""Where PyTorch 2.13's shape functions are wrong about its CPU kernels, and what is done about it.

Found by comparing fake and real outputs; `measure` makes that comparison for every op that it runs.

* dtypes: normalisation of half-precision inputs under float32 weights (autocast) gives float32
  statistics where the shape functions say half; group norm's backward is the other way round.
  `true_output` corrects the trace. Others are errors.
* layouts: some kernels return other strides than the shape function, and some losses reduce inside
  a block of the size of their input and return a scalar that owns all of it. `AsTraced` copies such
  outputs, so that every later view finds what the trace says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from poet_runtime.program import TensorSpec

_aten = torch.ops.aten


class AsTraced:
    """A function whose outputs are copied where they do not lie as the trace says."""

    __slots__ = ("function", "outputs")

    def __init__(
        self, function: Callable[..., Any], outputs: tuple[TensorSpec | None, ...]
    ) -> None:
        self.function = function
        self.outputs = outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        returned = self.function(*args, **kwargs)
        if isinstance(returned, Tensor):
            return _laid_out(returned, self.outputs[0])
        pairs = zip(returned, self.outputs, strict=True)
        return tuple(_laid_out(output, spec) for output, spec in pairs)


def lies_as(tensor: Tensor, spec: TensorSpec) -> bool:
    """Whether strides and offset agree, in a storage that ends where the tensor does."""
    pairs = zip(spec.size, tensor.stride(), spec.stride, strict=True)
    # A dimension of one element, and every one of an empty tensor, has no stride to speak of.
    strides = not tensor.numel() or all(a == b for size, a, b in pairs if size != 1)
    own = tensor.untyped_storage().nbytes() == extent_bytes(spec)
    return strides and own and tensor.storage_offset() == spec.offset


def runnable(
    op: torch._ops.OpOverload, outputs: tuple[TensorSpec | None, ...]
) -> Callable[..., Any]:
    """The operator, its outputs copied where its kernel is known to lay them out otherwise."""
    known = (
        _aten.mse_loss, _aten.smooth_l1_loss, _aten.binary_cross_entropy, _aten.soft_margin_loss,
        _aten.mse_loss_backward, _aten.smooth_l1_loss_backward, _aten.huber_loss_backward,
        _aten._log_softmax_backward_data, _aten.log_sigmoid_forward,
        _aten.native_dropout_backward, _aten.native_layer_norm_backward,
        _aten._native_batch_norm_legit_functional, _aten.native_batch_norm_backward,
    )  # fmt: skip
    return AsTraced(op, outputs) if op.overloadpacket in known else op


def _laid_out(tensor: Tensor, spec: TensorSpec | None) -> Tensor:
    if spec is None or lies_as(tensor, spec):
        return tensor
    copy = torch.empty_strided(spec.size, spec.stride, dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)


def extent_bytes(spec: TensorSpec) -> int:
    """Bytes of a storage that ends where the tensor does."""
    if 0 in spec.size:
        return 0
    last = sum((n - 1) * step for n, step in zip(spec.size, spec.stride, strict=True))
    return (spec.offset + last + 1) * spec.dtype.itemsize


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
    if packet is _aten._native_batch_norm_legit_no_training:
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
