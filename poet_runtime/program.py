"""Program: a training step that can be executed, op by op, on storages.

`trace` makes it, `measure` times it, `replay` executes it. `calls[i]` is how op i of the graph is
run. Tensors are named by TensorSpec: the storage they live in and how they lie in it, so that a
tensor can be rebuilt from the bytes of its storage alone (after a page-in, say). Invariant: what a
call's arguments and outputs touch is exactly what the op of the graph reads, writes and mutates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from poet_core.graph import TrainingGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """How a tensor lies in a storage: element offset, size and stride in elements of `dtype`."""

    storage: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpCall:
    """How one op is run: `function(*args, **kwargs)`.

    `args` and `kwargs` hold constants, TensorSpecs where a tensor goes, and lists or tuples of
    both. `outputs` names what the function returns, in order (one entry where it returns a single
    tensor): the TensorSpec that a freshly returned tensor fills, or None for an output that is not
    used. A call that only mutates its arguments has no outputs.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[TensorSpec | None, ...] = ()


class Owner(Enum):
    """Where the value of a persistent or input storage lives outside the step."""

    MODULE = "a parameter or buffer of the model, named by its qualified name"
    OPTIMIZER = "a state tensor of the optimizer: parameter name and state key"
    BATCH = "a tensor of the batch: its position among the batch's flattened tensors"
    CONSTANT = "a tensor constant of the traced program, kept in `value`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Ties a persistent or input storage to its owner. `spec` is the owner's view of it."""

    spec: TensorSpec
    owner: Owner
    name: str = ""
    state_key: str = ""
    position: int = -1
    value: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A traced training step: the graph for planners, the calls for the runtime.

    `bindings`: one for each persistent or input storage. `loss`: the scalar result that a step
    returns. `update_rules`: the objects through which the update calls read learning rates and
    step counts at run time (see `updates`); TrainStep refreshes them before each step.
    """

    graph: TrainingGraph
    calls: tuple[OpCall, ...]
    bindings: tuple[Binding, ...]
    loss: TensorSpec
    update_rules: tuple[Any, ...] = ()
