"""What the papers compare with: small ordinary networks, and answers that look at no input.

smaller_net      one hidden layer, as many units as a number of parameters allows
linear_model     one layer on the raw input
BagOfWords       the same for tokens: each word votes
RandomClasses    any class, each as likely
MostFrequent     the classes in the order of their frequency in training
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.trainers import feed_forward


def smaller_net(in_features: int, classes: int, *, parameters: int) -> nn.Sequential:
    """The widest network with one hidden layer of at most so many parameters.

    Raises UsageError (`baseline_invalid`) where not one hidden unit fits.
    """
    units = (parameters - classes) // (in_features + 1 + classes)
    if units < 1:
        raise UsageError(
            f"Expected at least {in_features + 1 + 2 * classes} parameters for one hidden unit, "
            f"got {parameters}.",
            code="baseline_invalid",
            hint="There is no such small network; compare with none.",
        )
    return feed_forward(in_features, classes, hidden=(units,))


def linear_model(in_features: int, classes: int) -> nn.Sequential:
    """Scaled inputs -> logits, (in_features + 1) * classes parameters."""
    return feed_forward(in_features, classes, hidden=())


class BagOfWords(nn.Module):
    """Tokens (batch, length), 0 where a text has ended -> logits: the mean of its words' votes."""

    def __init__(self, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.votes = nn.EmbeddingBag(vocabulary, classes, mode="mean", padding_idx=0)
        nn.init.zeros_(self.votes.weight)  # a linear model: a word that never occurs has no vote
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.votes(tokens) + self.bias
        return logits


class RandomClasses(nn.Module):
    """(batch, ...) -> random logits, from a generator of its own: P@k is k / classes."""

    def __init__(self, classes: int, *, seed: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.rand(len(inputs), self.classes, generator=self._generator)


class MostFrequent(nn.Module):
    """(batch, ...) -> for every input the number of each class among the labels of training."""

    counts: Tensor

    def __init__(self, labels: Tensor, classes: int) -> None:
        super().__init__()
        counts = torch.bincount(labels, minlength=classes).float()
        self.register_buffer("counts", counts)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.counts.expand(len(inputs), -1)
