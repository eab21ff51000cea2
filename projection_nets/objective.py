"""The joint training of a trainer and a projection network (Ravi 2017, Eq. 1-2).

    L = w1 * H(trainer, y) + w2 * H(projection, softmax(trainer)) + w3 * H(projection, y)

H is the cross-entropy of the left's softmax against the right, the mean over the batch. Invariant:
which terms exist is decided by the weights at construction, never by data, so that the step traces
to one fixed graph; it holds nothing random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.losses import distillation
from projection_nets.nets import NetOnBits

PAPER_WEIGHTS = (1.0, 0.1, 1.0)
"""Ravi 2017, section 4.1."""


class JointOutputs(NamedTuple):
    """Logits of both networks, each (batch, classes)."""

    trainer: Tensor
    projection: Tensor


class JointObjective(nn.Module):
    """Both networks as one module, and their loss: `joint.loss(joint(inputs), target)`.

    Inputs are raw, (batch, in_features) and for images float pixels 0..255. The projection takes
    them as they are (its bits are then the same on every machine), the trainer takes them divided
    by `trainer_divisor`. Targets are class numbers, (batch,) of int64.

    `detach_teacher`: the distillation term (w2) teaches the projection only. By default its
    gradient also reaches the trainer through the soft targets, as in the paper, which minimises
    the one joint loss over both networks.

    `temperature` softens the distillation (`losses`). A term of weight 0 is left out of the graph.
    Several trainers or projections in one step: `joint_training`. Raises UsageError
    (`weights_invalid`).
    """

    def __init__(
        self,
        *,
        trainer: nn.Module,
        projection: NetOnBits,
        weights: Sequence[float] = PAPER_WEIGHTS,
        trainer_divisor: float = 255.0,
        detach_teacher: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        usable = len(weights) == 3 and all(math.isfinite(w) and w >= 0 for w in weights)
        if not usable or not any(weights):
            raise UsageError(
                f"Expected three finite weights >= 0, not all 0, got {weights!r:.80}.",
                code="weights_invalid",
                hint=f"The paper's are {PAPER_WEIGHTS}.",
            )
        if not 0 < temperature < math.inf:
            raise UsageError(
                f"Expected a finite temperature above 0, got {temperature!r:.40}.",
                code="weights_invalid",
                hint="1 leaves the soft targets as they are.",
            )
        self.trainer = trainer
        self.projection = projection
        self.weights = tuple(weights)
        self.trainer_divisor = trainer_divisor
        self.detach_teacher = detach_teacher
        self.temperature = temperature

    def forward(self, inputs: Tensor) -> JointOutputs:
        return JointOutputs(
            trainer=self.trainer(inputs / self.trainer_divisor),
            projection=self.projection(inputs),
        )

    def loss(self, outputs: JointOutputs, target: Tensor) -> Tensor:
        """The joint loss, a scalar."""
        cross_entropy = nn.functional.cross_entropy
        trainer_weight, distillation_weight, projection_weight = self.weights
        terms: list[Tensor] = []
        if trainer_weight:
            terms.append(trainer_weight * cross_entropy(outputs.trainer, target))
        if distillation_weight:
            term = distillation(
                outputs.projection,
                outputs.trainer,
                temperature=self.temperature,
                detach=self.detach_teacher,
            )
            terms.append(distillation_weight * term)
        if projection_weight:
            terms.append(projection_weight * cross_entropy(outputs.projection, target))
        return reduce(torch.add, terms)
