"""The term that teaches: the cross-entropy of a student against a teacher's soft targets."""

from __future__ import annotations

from torch import Tensor


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
