"""Softmax, cross-entropy, dropout and other ops piece by piece, mostly in place of an operand.

Each function calls the operators that the op in one piece would have called, on rows or runs of
elements that do not depend on each other, with a scratch of one or two pieces. Invariant: a tensor
that a function changes is contiguous, and is the one that its name with a trailing underscore
announces: its first argument.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from poet_runtime.tracing.dropout import dropout_backward

_aten = torch.ops.aten


def log_softmax_(values: Tensor, rows: int) -> None:
    """log_softmax over the last dimension, in place."""
    for (piece,) in _by_rows(rows, values):
        piece.copy_(torch._log_softmax(piece, -1, False))


def softmax_(values: Tensor, rows: int) -> None:
    """softmax over the last dimension, in place."""
    for (piece,) in _by_rows(rows, values):
        piece.copy_(torch._softmax(piece, -1, False))


def log_softmax_backward_(gradient: Tensor, output: Tensor, rows: int) -> None:
    """The gradient of log_softmax over the last dimension, in place of that of its output."""
    for piece, values in _by_rows(rows, gradient, output):
        piece.copy_(torch._log_softmax_backward_data(piece, values, -1, piece.dtype))


def softmax_backward_(gradient: Tensor, output: Tensor, rows: int) -> None:
    """The gradient of softmax over the last dimension, in place of that of its output."""
    for piece, values in _by_rows(rows, gradient, output):
        piece.copy_(torch._softmax_backward_data(piece, values, -1, piece.dtype))


def cross_entropy_backward_(
    log_probabilities: Tensor,
    gradient: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: int,
    ignore_index: int,
    total_weight: Tensor,
    rows: int,
) -> None:
    """The gradient of cross-entropy with respect to the logits, in place of log-probabilities.

    nll_loss's gradient, one number a row among zeros, exists for some rows at a time only."""
    one_for_all = gradient.dim() == 0
    gradients = gradient.expand(target.shape) if one_for_all else gradient
    for values, labels, losses in _by_rows(rows, log_probabilities, target, gradients):
        chosen = _aten.nll_loss_backward.default(
            gradient if one_for_all else losses, values, labels, weight, reduction, ignore_index,
            total_weight,
        )  # fmt: skip
        values.copy_(torch._log_softmax_backward_data(chosen, values, -1, values.dtype))


def dropout_by_pieces(values: Tensor, rate: float, length: int) -> tuple[Tensor, Tensor]:
    """As `dropout.dropout`: the mask is drawn at once, because a stream of random numbers cannot be
    cut; the product is made by pieces."""
    mask = _drawn(values, rate)
    kept = torch.empty_like(values)
    for piece, values_piece, mask_piece in _by_elements(length, kept, values, mask):
        piece.copy_(dropout_backward(values_piece, mask_piece, rate))
    return kept, mask


def dropout_(values: Tensor, rate: float, length: int) -> Tensor:
    """As `dropout_by_pieces`, in place of the values. Returns the mask."""
    mask = _drawn(values, rate)
    for piece, mask_piece in _by_elements(length, values, mask):
        piece.copy_(dropout_backward(piece, mask_piece, rate))
    return mask


def dropout_backward_(gradient: Tensor, mask: Tensor, rate: float, length: int) -> None:
    """As `dropout.dropout_backward`, in place."""
    for piece, mask_piece in _by_elements(length, gradient, mask):
        piece.copy_(dropout_backward(piece, mask_piece, rate))


def embedding_rows_added_(
    total: Tensor, gradient: Tensor, indices: Tensor, padding_index: int, first: int
) -> None:
    """Adds embedding_dense_backward's result to `total` without making its rows of zeros.

    `total`: the gradient of the rows from `first` on. Words that occur are summed apart, each in
    the order in which the whole would sum it; the scratch is as large as if all were different, so
    that it can be planned for. Adding zero to all rows makes 0.0 of -0.0, as adding the whole would.
    """
    rows = total.shape[0]
    local = indices - first
    elsewhere = (local < 0) | (local >= rows) | (indices == padding_index)
    words, places = torch.unique(local.masked_fill_(elsewhere, rows), return_inverse=True)
    known = words[words < rows]
    # The place after the last word is that of everything elsewhere, which is skipped.
    most = min(indices.numel(), rows) + 1
    sums = _aten.embedding_dense_backward.default(gradient, places, most, len(known), False)
    total.add_(0.0)
    total.index_add_(0, known, sums[: len(known)])


def _drawn(values: Tensor, rate: float) -> Tensor:
    return torch.empty_like(values, dtype=torch.bool).bernoulli_(1 - rate)


def _by_rows(rows: int, first: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of each tensor, some at a time; the first one's last dimension is a row."""
    count = first.numel() // first.shape[-1]
    tensors = [
        tensor.view(count, -1) if tensor.dim() == first.dim() else tensor
        for tensor in (first, *others)
    ]
    for begin in range(0, count, rows):
        yield tuple(tensor[begin : begin + rows] for tensor in tensors)


def _by_elements(length: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    flat = [tensor.view(-1) for tensor in tensors]
    for begin in range(0, flat[0].numel(), length):
        yield tuple(tensor[begin : begin + length] for tensor in flat)
