"""The terms of the losses: labels, a teacher's soft targets, a mentor's representations, neighbours.

Invariant: every value and every gradient is finite where the inputs are, so no term turns a step to
NaN, at equal representations for instance.
"""

from __future__ import annotations

from torch import Tensor, nn

_LEAST_SQUARE = 1e-12  # the root has no gradient at 0


def distillation(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, detach: bool = False
) -> Tensor:
    """H(student, softmax(teacher)), logits (batch, classes) both, the mean over the batch.

    A temperature divides both logits and multiplies the term by its square, which keeps the size
    of the gradient (Hinton, Vinyals, Dean 2015). `detach`: no gradient reaches the teacher.
    """
    if detach:
        teacher = teacher.detach()
    if temperature != 1.0:
        student, teacher = student / temperature, teacher / temperature
    # written out: unlike the ready-made function it is certain to differentiate both factors
    term = -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).mean()
    return term if temperature == 1.0 else term * temperature**2


def label_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy of the first `len(target)` rows, which are the labelled ones; their mean."""
    labelled = logits if len(logits) == len(target) else logits[: len(target)]
    return nn.functional.cross_entropy(labelled, target)


def rmse(one: Tensor, other: Tensor) -> Tensor:
    """The root of the mean squared difference of two tensors of one shape."""
    return (nn.functional.mse_loss(one, other) + _LEAST_SQUARE).sqrt()


def squared_disagreement(one: Tensor, other: Tensor) -> Tensor:
    """|softmax(one) - softmax(other)|^2 over the last dimension of logits."""
    return (one.softmax(dim=-1) - other.softmax(dim=-1)).square().sum(dim=-1)


def cross_disagreement(one: Tensor, other: Tensor) -> Tensor:
    """H(one, softmax(other)) over the last dimension of logits; `other` is taken as it is."""
    return -(other.detach().softmax(dim=-1) * one.log_softmax(dim=-1)).sum(dim=-1)
