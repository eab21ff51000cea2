"""The sign of an inner product as a bit, and its gradient where something before it learns.

A sign has no gradient. Over raw inputs none is needed. Over a layer that is trained the
straight-through estimator takes that of a ramp in the step's place:

    forward   1 where s > 0, else 0 (a tie gives 0)
    backward  1 / (2 w) where |s| < w, else 0: that of (clamp(s / w, -1, 1) + 1) / 2

Invariant: the forward values are exactly the two values of a bit. The ramp enters as ramp minus
itself, which is exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from projection_nets.spec import BitValues


def as_values(bits: Tensor, values: BitValues, dtype: torch.dtype) -> Tensor:
    """Boolean bits as the numbers that the network sees."""
    numbers = bits.to(dtype)
    return numbers * 2 - 1 if values is BitValues.PLUS_MINUS_ONE else numbers


def straight_through(products: Tensor, values: BitValues, width: float) -> Tensor:
    """Values of the signs of `products`, with the gradient of a ramp that is 2 * `width` wide."""
    hard = as_values(products.detach() > 0, values, products.dtype)
    ramp = (products / width).clamp(-1, 1)
    if values is BitValues.ZERO_ONE:
        ramp = ramp / 2
    return hard + (ramp - ramp.detach())
