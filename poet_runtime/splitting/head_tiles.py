"""A vocabulary head and its cross-entropy on tiles of the logits: what the step runs.

    forward   by rows      logits -> log-probabilities, of which nll_loss needs one a row
    backward  by rows      log-probabilities -> gradient of the logits -> rows of the hidden states'
    backward  by columns   gradient of the logits, cut into tiles and joined again by columns ->
                           rows of the weight's gradient, columns of the bias's

Invariant: each function calls the operator that the head in one piece would have called, on
contiguous rows or columns of its operands.
"""

from __future__ import annotations

import torch
from torch import Tensor

_IGNORED = -100
"""As a label of a column that has one class, 0: nll_loss's own default, which is no class."""

_aten = torch.ops.aten


def chosen_log_probabilities(
    log_probabilities: Tensor, target: Tensor, ignore_index: int
) -> Tensor:
    """One number a row: what nll_loss reads of it. Of a row that is ignored, any."""
    known = target.where(target != ignore_index, 0)
    return log_probabilities.gather(1, known.unsqueeze(1)).squeeze(1)


def nll_loss_of_chosen(
    chosen: list[Tensor], target: Tensor, reduction: int, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """nll_loss_forward of the whole from one number a row, added up in the same order."""
    column = torch.cat(chosen).unsqueeze(1)
    labels = torch.where(target == ignore_index, _IGNORED, 0)
    loss, total_weight = _aten.nll_loss_forward.default(column, labels, None, reduction, _IGNORED)
    return loss, total_weight


def cut_by_columns(gradient: Tensor, width: int) -> tuple[Tensor, ...]:
    """Copies of so many columns at a time; the last may have fewer."""
    return tuple(
        piece.clone(memory_format=torch.contiguous_format)
        for piece in torch.split(gradient, width, dim=1)
    )


def weight_gradient_(weights: list[Tensor], tiles: list[Tensor], hidden: Tensor) -> None:
    """Fills the rows of the weight's gradient that belong to the tiles' columns; `weights` are these
    rows, in one or several pieces."""
    _fill(weights, torch.cat(tiles), hidden)


def weight_and_bias_gradient_(
    weights: list[Tensor], bias: Tensor, tiles: list[Tensor], hidden: Tensor
) -> None:
    """As `weight_gradient_`, and the columns of the bias's gradient."""
    panel = torch.cat(tiles)
    _fill(weights, panel, hidden)
    bias.copy_(panel.sum([0], keepdim=True))


def _fill(weights: list[Tensor], panel: Tensor, hidden: Tensor) -> None:
    begin = 0
    for weight in weights:
        end = begin + weight.shape[0]
        torch.mm(panel[:, begin:end].t(), hidden, out=weight)
        begin = end
