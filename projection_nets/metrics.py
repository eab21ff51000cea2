"""P@k: how often the true class is among the k that score highest.

Tie rule: of two classes with the same score the one with the lower number ranks first, as argmax
does, so P@1 is the accuracy of what a device answers. A row with a NaN in it is never right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.data.examples import Labelled
from projection_nets.data.images import LabelledImages
from projection_nets.joint_step import JointStep
from projection_nets.objective import JointObjective

PAPER_KS = (1, 3, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class JointPrecision:
    """P@k of both networks on the same examples, k -> share in 0..1."""

    trainer: dict[int, float]
    projection: dict[int, float]
    examples: int


def ranks_of_target(logits: Tensor, target: Tensor) -> Tensor:
    """Rank (0 = first) of the true class in each row: (batch, classes), (batch,) -> int64 (batch,).

    A row with a NaN ranks its target last, behind every class.
    """
    true_score = logits.gather(1, target[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > true_score) | ((logits == true_score) & (classes < target[:, None]))
    ranks = ahead.sum(dim=1)
    return torch.where(logits.isnan().any(dim=1), logits.shape[1], ranks)


def precision_at_k(logits: Tensor, target: Tensor, k: int) -> float:
    """Share of the rows whose true class ranks among the first k. Raises UsageError (`k_invalid`)."""
    _check_ks((k,))
    return float((ranks_of_target(logits, target) < k).double().mean())


def evaluate(
    model: nn.Module,
    examples: Labelled[tuple[Tensor, ...]],
    *,
    ks: Sequence[int] = PAPER_KS,
    batch_size: int = 1000,
) -> dict[int, float]:
    """P@k of a model from inputs to logits, in batches, in evaluation mode, without gradients."""
    _check_ks(ks)
    with _evaluating(model):
        ranks = [
            ranks_of_target(model(*inputs), labels)
            for *inputs, labels in examples.chunks(batch_size)
        ]
    return _shares(torch.cat(ranks), ks)


def evaluate_networks(
    joint: JointStep,
    examples: Labelled[tuple[Tensor, ...]],
    *,
    ks: Sequence[int] = PAPER_KS,
    batch_size: int = 1000,
) -> dict[str, dict[int, float]]:
    """P@k of every network of a joint step by its name, in one pass over the examples."""
    _check_ks(ks)
    ranks: dict[str, list[Tensor]] = {name: [] for name in joint.networks}
    with _evaluating(joint):
        for *inputs, labels in examples.chunks(batch_size):
            outputs = joint(*inputs)
            for name, found in ranks.items():
                found.append(ranks_of_target(outputs[name], labels))
    return {name: _shares(torch.cat(found), ks) for name, found in ranks.items()}


def evaluate_joint(
    joint: JointObjective,
    images: LabelledImages,
    *,
    ks: Sequence[int] = PAPER_KS,
    batch_size: int = 1000,
) -> JointPrecision:
    """P@k of trainer and projection in one pass over the images."""
    _check_ks(ks)
    trainer_ranks: list[Tensor] = []
    projection_ranks: list[Tensor] = []
    with _evaluating(joint):
        for pixels, labels in images.chunks(batch_size):
            outputs = joint(pixels)
            trainer_ranks.append(ranks_of_target(outputs.trainer, labels))
            projection_ranks.append(ranks_of_target(outputs.projection, labels))
    return JointPrecision(
        trainer=_shares(torch.cat(trainer_ranks), ks),
        projection=_shares(torch.cat(projection_ranks), ks),
        examples=len(images),
    )


def _shares(ranks: Tensor, ks: Sequence[int]) -> dict[int, float]:
    return {k: float((ranks < k).double().mean()) for k in ks}


def _check_ks(ks: Sequence[int]) -> None:
    if not ks or min(ks) < 1:
        raise UsageError(
            f"Expected every k of P@k to be at least 1, got {tuple(ks)}.",
            code="k_invalid",
            hint="The paper's are 1, 3 and 5.",
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module's own mode comes back afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True
