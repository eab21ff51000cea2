"""FLOPs of an op: torch's own counts where it has them, else one an element that comes out.

torch.utils.flop_counter counts matrix products, convolutions and attention, forward and backward
(a multiply-add is two FLOPs). Everything else is bound by memory, and one FLOP an output element is
a label rather than a cost; optimizer updates count their arithmetic per element (`updates`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry


def flops_of(
    op: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
) -> int:
    """FLOPs of one call on (fake) tensors."""
    count = flop_registry.get(op.overloadpacket)
    if count is not None:
        return int(count(*args, **kwargs, out_val=output))
    return sum(leaf.numel() for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor))
