"""Trainers: the big networks whose knowledge goes into a projection network and that stay behind."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def feed_forward(
    in_features: int, classes: int, *, hidden: tuple[int, ...] = (1000, 1000, 1000)
) -> nn.Sequential:
    """Linear and ReLU layers over a scaled, flat input; the default is Ravi's MNIST trainer.

    784-1000-1000-1000-10 has 2,797,010 parameters (Ravi 2017, section 4.1).
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((in_features, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers.append(nn.Linear((in_features, *hidden)[-1], classes))
    return nn.Sequential(*layers)
