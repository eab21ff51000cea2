"""A multilayer perceptron: the smallest step that is still a training step."""

from __future__ import annotations

import torch
from torch import nn

from examples.parts import Step, optimizer_named, seeded
from projection_nets import trainers


def step(
    *,
    batch_size: int = 64,
    features: int = 784,
    hidden: tuple[int, ...] = (256, 256),
    classes: int = 10,
    optimizer: str = "sgd",
    seed: int = 0,
) -> Step:
    """784-256-256-10 with ReLU, cross-entropy, SGD, batch 64."""
    with seeded(seed):
        model = trainers.feed_forward(features, classes, hidden=hidden)
        inputs = torch.rand(batch_size, features)
        labels = torch.randint(0, classes, (batch_size,))
    loss = nn.functional.cross_entropy
    return model, loss, optimizer_named(optimizer, model), (inputs, labels)
