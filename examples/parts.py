"""What every example step is made of: the tuple's type, seeded building, and the optimizers.

Invariant: a factory draws from the global generator inside `seeded` only, so calling one leaves the
caller's random numbers as they were and gives the same weights every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError

Batch = tuple[Tensor, ...]
LossFunction = Callable[[Any, Tensor], Tensor]

Step = tuple[nn.Module, LossFunction, torch.optim.Optimizer, Batch]
"""loss = loss_fn(model(*batch[:-1]), batch[-1]): the batch's last element is the target."""

_OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters: torch.optim.SGD(
        parameters, lr=0.05, momentum=0.9, weight_decay=5e-4
    ),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01),
}


def optimizer_named(name: str, model: nn.Module) -> torch.optim.Optimizer:
    """One of sgd, momentum, adam, adamw over all of the model's parameters."""
    if name not in _OPTIMIZERS:
        raise UsageError(
            f"Expected an optimizer of {', '.join(_OPTIMIZERS)}, got {name!r:.40}.",
            code="optimizer_unknown",
            hint="Pass one of these names.",
        )
    return _OPTIMIZERS[name](model.parameters())


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Global CPU randomness from `seed` inside, and as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def image_batch(batch: int, image_size: int, classes: int) -> Batch:
    """Random colour images, (batch, 3, size, size), and their classes."""
    images = torch.randn(batch, 3, image_size, image_size)
    return images, torch.randint(0, classes, (batch,))
