"""Batch norm's and max-pool's gradients by channels and by images.

Channels of a batch norm, and images of a pool, do not depend on each other. Invariant: a function
calls the operator that the op in one piece would have called, on contiguous copies of some channels
or on some images, and `batch_norm_backward_` changes its first argument only.
"""

from __future__ import annotations

import torch
from torch import Tensor

_aten = torch.ops.aten


def batch_norm_backward_(
    gradient: Tensor,
    values: Tensor,
    weight: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor | None,
    inverse_deviation: Tensor | None,
    training: bool,
    epsilon: float,
    wanted: list[bool],
    channels: int,
) -> tuple[Tensor, Tensor]:
    """native_batch_norm_backward, the gradient of the values in place of that of the output.

    Returns the gradients of weight and bias (empty where they are not wanted)."""
    by_channel = [weight, running_mean, running_var, mean, inverse_deviation]
    weights: list[Tensor] = []
    biases: list[Tensor] = []
    for begin in range(0, values.shape[1], channels):
        part = slice(begin, begin + channels)
        found, of_weight, of_bias = _aten.native_batch_norm_backward.default(
            gradient[:, part].contiguous(),
            values[:, part].contiguous(),
            *(None if tensor is None else tensor[part] for tensor in by_channel),
            training,
            epsilon,
            wanted,
        )
        gradient[:, part] = found
        weights.append(of_weight)
        biases.append(of_bias)
    empty = gradient.new_empty(0)
    return (
        torch.cat(weights) if wanted[1] else empty,
        torch.cat(biases) if wanted[2] else empty,
    )


def max_pool_backward(
    gradient: Tensor,
    size: list[int],
    window: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
    indices: Tensor,
    images: int,
) -> Tensor:
    """max_pool2d_with_indices_backward without the pooled values, of which it takes the shape only.

    It works on `images` at a time with a stand-in of their size."""
    result = gradient.new_empty(size)
    stand_in = gradient.new_empty([min(images, size[0]), *size[1:]])
    for begin in range(0, size[0], images):
        part = result[begin : begin + images]
        _aten.max_pool2d_with_indices_backward.grad_input(
            gradient[begin : begin + images], stand_in[: len(part)], window, stride, padding,
            dilation, ceil_mode, indices[begin : begin + images], grad_input=part,
        )  # fmt: skip
    return result
