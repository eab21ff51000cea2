"""StepOptions: what a training step does besides model, loss and optimizer.

They are part of the trace: a program knows its own. Invariant: what is here has been checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from poet_core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """`clip_norm`: gradients are scaled as torch.nn.utils.clip_grad_norm_ does it, to this norm over
    all parameters that the optimizer trains; `clip_value`: as clip_grad_value_ does it.
    `accumulate`: calls that add up gradients before the optimizer's step, the last of which takes
    it. `autocast`: the type to which torch.autocast casts in the forward pass and the loss.
    `split_above_bytes`: ops and updates that need more memory than this at once are split or put in
    place where the bits stay the same; None leaves every op as traced.

    Raises UsageError (`clip_invalid`, `accumulate_invalid`, `autocast_invalid`, `split_invalid`).
    """

    clip_norm: float | None = None
    clip_value: float | None = None
    accumulate: int = 1
    autocast: torch.dtype | None = None
    split_above_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.clip_norm is not None and self.clip_value is not None:
            raise UsageError(
                "Expected clip_norm or clip_value, got both.",
                code="clip_invalid",
                hint="Clip by norm; a gradient inside the norm is inside that value, too.",
            )
        for name, limit in (("clip_norm", self.clip_norm), ("clip_value", self.clip_value)):
            if limit is not None and (math.isnan(limit) or limit <= 0):
                raise UsageError(
                    f"Expected {name} to be a number above 0, got {limit!r}.", code="clip_invalid"
                )
        if self.accumulate < 1:
            raise UsageError(
                f"Expected accumulate of at least 1 call a step, got {self.accumulate!r}.",
                code="accumulate_invalid",
            )
        if self.autocast not in (None, torch.bfloat16, torch.float16):
            raise UsageError(
                f"Expected autocast to be torch.bfloat16 or torch.float16, got {self.autocast!r}.",
                code="autocast_invalid",
            )
        if self.split_above_bytes is not None and self.split_above_bytes < 0:
            raise UsageError(
                f"Expected split_above_bytes of 0 or more, got {self.split_above_bytes!r}.",
                code="split_invalid",
            )
