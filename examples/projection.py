"""Ravi's joint training step (2017): the MNIST trainer teaches a projection net of 7,210 parameters.

The example batch has MNIST's shape and range; training runs on real batches of the same shape.
"""

from __future__ import annotations

import torch

from examples.parts import Step, optimizer_named, seeded
from projection_nets import JointObjective, ProjectionNet, trainers

_PIXELS = 784
_CLASSES = 10


def step(
    *,
    batch_size: int = 200,
    hidden: tuple[int, ...] = (1000, 1000, 1000),
    functions: int = 60,
    bits: int = 12,
    optimizer: str = "adam",
    seed: int = 0,
) -> Step:
    """Trainer 784-1000-1000-1000-10, projection [60,12], weights 1.0/0.1/1.0, Adam, batch 200."""
    with seeded(seed):
        joint = JointObjective(
            trainer=trainers.feed_forward(_PIXELS, _CLASSES, hidden=hidden),
            projection=ProjectionNet(_PIXELS, _CLASSES, T=functions, d=bits),
        )
        pixels = torch.randint(0, 256, (batch_size, _PIXELS)).to(torch.float32)
        labels = torch.randint(0, _CLASSES, (batch_size,))
    return joint, joint.loss, optimizer_named(optimizer, joint), (pixels, labels)


def step_sgd(*, batch_size: int = 200) -> Step:
    """The same with plain SGD, which keeps no state."""
    return step(batch_size=batch_size, optimizer="sgd")
