"""LeNet-5 (LeCun et al. 1998) as it is taught today: 28 x 28 in, tanh, average pooling, softmax.

At 10 classes it has 61,706 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.parts import Step, optimizer_named, seeded

_IMAGE_SIZE = 28


class LeNet5(nn.Module):
    """(batch, 1, 28, 28) -> (batch, classes)."""

    def __init__(self, *, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2),
            nn.Tanh(),
            nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.Tanh(),
            nn.AvgPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(),
            nn.Linear(84, classes),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def step(
    *, batch_size: int = 64, classes: int = 10, optimizer: str = "momentum", seed: int = 0
) -> Step:
    """LeNet-5 at 28 x 28, cross-entropy, SGD with momentum, batch 64."""
    with seeded(seed):
        model = LeNet5(classes=classes)
        images = torch.rand(batch_size, 1, _IMAGE_SIZE, _IMAGE_SIZE)
        labels = torch.randint(0, classes, (batch_size,))
    loss = nn.functional.cross_entropy
    return model, loss, optimizer_named(optimizer, model), (images, labels)
