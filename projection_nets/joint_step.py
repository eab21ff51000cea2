"""What one training step of several networks is to a training run and to an evaluation.

    JointTraining    trainers and students that learn together     (joint_training)
    Mentoring        a mentee under a frozen or recorded mentor    (mentoring)
    GraphTraining    either network held to its neighbours         (graph_training)

A batch is (inputs ..., target). Invariant: `forward` of a data set's inputs alone gives the logits
of every name in `networks`, so an evaluation needs nothing that only a training batch carries.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class JointStep(nn.Module):
    """`step.loss(step(*inputs), target)` is the loss of one batch."""

    @property
    @abstractmethod
    def networks(self) -> tuple[str, ...]:
        """Names of the networks, which are the names of their logits (batch, classes)."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Logits and whatever else the loss needs, by name."""

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """A scalar."""
