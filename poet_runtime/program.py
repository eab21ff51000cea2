"""Program: a training step that can be executed, op by op, on storages.

`trace` makes it, `measure` times it, `replay` executes it. `calls[i]` is how op i of the graph is
run. Tensors are named by TensorSpec: the storage they live in and how they lie in it, so that a
tensor can be rebuilt from the bytes of its storage alone (after a page-in, say). Invariant: what a
call's arguments and outputs touch is exactly what the op of the graph reads, writes and mutates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import torch

from poet_core.graph import TrainingGraph
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.step_options import StepOptions

DEVICE_CONDITION = "device"
"""Among a graph's conditions: the device of a step that was not traced for the CPU."""


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
    used (its bytes are part of the op's workspace). A call that only mutates its arguments has no
    outputs, whatever it returns. A returned tensor owns a storage of its own, of exactly the bytes
    that the graph gives, at offset 0; a buffer's write-back returns the buffer's new storage.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[TensorSpec | None, ...] = ()


class UpdateRule(Protocol):
    """What the update calls of one parameter group read at run time: learning rate, step count.

    A rule holds numbers, never tensors, and an update call changes nothing but its arguments, so a
    void step leaves no trace. The order of a run:

        load (once)  ->  begin_step -> the calls -> end_step  (every step)  ->  store (write-back)

    State tensors (`exp_avg`, ...) are the runtime's: it reads them from `optimizer.state[parameter]`
    where they exist, begins with zeros where they do not, and writes them back beside `store`.
    """

    def load(self, optimizer: torch.optim.Optimizer) -> None:
        """Takes over step counts and which state exists: before the first step, and again where
        the optimizer's state was replaced (`load_state_dict`). Does not change the optimizer."""

    def begin_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Reads the group's hyperparameters as they are now (a scheduler may have changed them)."""

    def end_step(self) -> None:
        """Counts a step that completed; a void step is not counted."""

    def store(self, optimizer: torch.optim.Optimizer) -> None:
        """Writes the step counts into `optimizer.state`, as the optimizer itself keeps them."""


class Owner(Enum):
    """Where the value of a persistent or input storage lives outside the step."""

    MODULE = "a parameter or buffer of the model, named by its qualified name"
    OPTIMIZER = "a state tensor of the optimizer: parameter name and state key; zeros where absent"
    GRADIENT = "gradients added up over calls: .grad of the parameter; None where none is there"
    BATCH = "a tensor of the batch: its position among the batch's flattened tensors"
    CONSTANT = "a tensor constant of the traced program, kept in `value`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Ties a persistent or input storage to its owner. `spec` is the owner's view of it.

    A tied parameter has one storage, named by the first name that the model gives it. `position`
    counts the tensors (and only them) of the batch in `torch.utils._pytree` order. `value` is None
    for a constant of a model that was traced without values: such a program cannot be run. `part`:
    the storage holds some rows of the owner's tensor, the first of them and how many; the parts of
    one tensor follow each other in the order of their rows. None for all of it.
    """

    spec: TensorSpec
    owner: Owner
    name: str = ""
    state_key: str = ""
    position: int = -1
    value: torch.Tensor | None = None
    part: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A traced training step: the graph for planners, the calls for the runtime.

    `bindings`: one for each persistent or input storage. `loss`: the scalar result that a step
    returns. `update_rules`: one for each parameter group that trains (see UpdateRule). `options`:
    what it was traced with. `splits`: what became of each op above `options.split_above_bytes`.
    """

    graph: TrainingGraph
    calls: tuple[OpCall, ...]
    bindings: tuple[Binding, ...]
    loss: TensorSpec
    update_rules: tuple[UpdateRule, ...] = ()
    options: StepOptions = field(default_factory=StepOptions)
    splits: tuple[SplitNote, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where all of the step's tensors are."""
        return torch.device(self.graph.conditions.get(DEVICE_CONDITION, "cpu"))
