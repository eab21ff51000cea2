"""Trainers: the big networks whose knowledge goes into a projection network and that stay behind.

Any nn.Module that returns logits is a trainer; these are the papers' and their likes.

    feed_forward   flat inputs scaled to 0..1           Linear, ReLU, ...
    convolutional  the same, seen as an image           Conv, ReLU, pool, twice, then two Linear
    LstmTrainer    tokens (text_trainers)               Ravi 2017, section 4.3
    TransformerTrainer  tokens (text_trainers)
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from projection_nets.text_trainers import LstmTrainer, TransformerTrainer

__all__ = ["LstmTrainer", "TransformerTrainer", "convolutional", "feed_forward"]


def feed_forward(
    in_features: int,
    classes: int,
    *,
    hidden: tuple[int, ...] = (1000, 1000, 1000),
    dropout: float = 0.0,
) -> nn.Sequential:
    """Linear and ReLU layers over a scaled, flat input; the default is Ravi's MNIST trainer.

    784-1000-1000-1000-10 has 2,797,010 parameters (Ravi 2017, section 4.1).
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((in_features, *hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear((in_features, *hidden)[-1], classes))
    return nn.Sequential(*layers)


def convolutional(
    classes: int,
    *,
    channels: int = 1,
    side: int = 28,
    maps: tuple[int, ...] = (32, 64),
    hidden: int = 128,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Scaled, flat images (batch, channels * side * side) -> logits.

    3 x 3 convolutions, each followed by ReLU and a 2 x 2 maximum, then one hidden layer.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (channels, side, side))]
    for inputs, outputs in pairwise((channels, *maps)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        side //= 2
    layers += [nn.Flatten(), nn.Linear((channels, *maps)[-1] * side * side, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(hidden, classes))
    return nn.Sequential(*layers)
