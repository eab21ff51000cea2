"""What one would do about a training step's memory without this project, on PyTorch's own means.

    checkpoint      torch.utils.checkpoint over the model's blocks, use_reentrant=False, random state
                    preserved: sqrt(n) segments, or every block for itself
    budget          torch.compile with torch._functorch.config.activation_memory_budget, model and
                    loss in one graph: inductor where there is a C++ compiler, else aot_eager
    disk            saved-tensor hooks that write each tensor from 1 MiB on to a file (`replay_disk`)
    in-backward     an optimizer for each parameter, which steps as soon as its gradient is complete

and what goes together. Invariant: each does the same step on the same numbers; only inductor draws
random numbers of its own.
"""

from __future__ import annotations

import inspect
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.replay_disk import SavedOnDisk
from examples.parts import Batch, LossFunction, Step

EAGER = "eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What is switched on. `segments`: how many for n blocks; `budget`: the share of what eager saves
    (1 is torch.compile as it is); `mapped`: libc's malloc gives back each large block when it is
    freed (MALLOC_MMAP_THRESHOLD_ held at its default), without which what these two save is lost to
    its heap's gaps."""

    title: str
    segments: Callable[[int], int] | None = None
    budget: float | None = None
    disk: bool = False
    in_backward: bool = False
    mapped: bool = False


def _square_root(blocks: int) -> int:
    return math.ceil(math.sqrt(blocks))


def _every(blocks: int) -> int:
    return blocks


METHODS = {
    EAGER: Method(title="eager"),
    "checkpoint-all": Method(
        title="checkpoint every block, optimizer in backward, large blocks mapped",
        segments=_every,
        in_backward=True,
        mapped=True,
    ),
    "disk": Method(title="saved tensors to disk, large blocks mapped", disk=True, mapped=True),
    "checkpoint": Method(title="checkpoint, sqrt(n) segments", segments=_square_root),
    "budget-0.2": Method(title="torch.compile, memory budget 0.2", budget=0.2),
    "budget-0.5": Method(title="torch.compile, memory budget 0.5", budget=0.5),
    "in-backward": Method(title="optimizer in backward", in_backward=True),
}
"""Eager first, because the others' gradients are compared with its; then by the memory expected."""


class OptimizerInBackward:
    """Takes the optimizer's place: nothing is left to do when the backward pass is over."""

    def __init__(self, model: nn.Module, whole: torch.optim.Optimizer) -> None:
        self._whole = whole
        kind: Any = type(whole)
        taken = inspect.signature(kind).parameters  # AdamW keeps a default that it does not take
        options = {name: value for name, value in whole.defaults.items() if name in taken}
        self.parts: dict[nn.Parameter, torch.optim.Optimizer] = {
            parameter: kind([parameter], **options) for parameter in model.parameters()
        }
        for parameter in self.parts:
            parameter.register_post_accumulate_grad_hook(self._update)  # type: ignore[no-untyped-call]

    def _update(self, parameter: Tensor) -> None:
        assert isinstance(parameter, nn.Parameter)
        self.parts[parameter].step()
        parameter.grad = None

    def gather(self) -> torch.optim.Optimizer:
        """The whole optimizer, with the states of the parts."""
        for parameter, part in self.parts.items():
            self._whole.state[parameter] = part.state[parameter]
        return self._whole


class Segments:
    """Stands in for a model's list of blocks: called, or gone through, it checkpoints runs of them."""

    def __init__(self, blocks: Sequence[nn.Module], count: int) -> None:
        bounds = [len(blocks) * part // count for part in range(count + 1)]
        self._runs = [blocks[begin:end] for begin, end in pairwise(bounds) if end > begin]

    def __iter__(self) -> Iterator[Callable[[Tensor], Tensor]]:
        for run in self._runs:
            yield lambda states, run=run: checkpoint(_through, run, states, use_reentrant=False)  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self._runs)

    def __call__(self, states: Tensor) -> Tensor:
        for segment in self:
            states = segment(states)
        return states


def _through(blocks: Sequence[nn.Module], states: Tensor) -> Tensor:
    for block in blocks:
        states = block(states)
    return states


class Trainer:
    """A step under a method: call it. `model` and `optimizer()` hold what it has trained."""

    def __init__(self, step: Step, blocks: str, method: Method, backend: str | None = None) -> None:
        """`backend`: of torch.compile, if the method has one (default: the best here)."""
        self.model, loss_fn, self._optimizer, self._batch = step
        self._in_backward = (
            OptimizerInBackward(self.model, self._optimizer) if method.in_backward else None
        )
        if method.segments is not None:
            held = list(getattr(self.model, blocks))
            # In the instance's own dictionary it hides the list, and parameters keep their names.
            self.model.__dict__[blocks] = Segments(held, method.segments(len(held)))
        self._loss = _whole_loss(self.model, loss_fn)
        if method.budget is not None:
            self._loss = compiled(self._loss, method.budget, backend or compiler())
        self._disk = SavedOnDisk(self.model.parameters()) if method.disk else None

    def __call__(self) -> float:
        """One step; its loss."""
        if self._in_backward is None:
            self._optimizer.zero_grad(set_to_none=True)
        hooks: AbstractContextManager[Any] = nullcontext()
        if self._disk is not None:
            self._disk.begin()
            hooks = torch.autograd.graph.saved_tensors_hooks(self._disk.write, self._disk.read)
        with hooks:
            loss = self._loss(self._batch)
        torch.autograd.backward(loss)
        if self._in_backward is None:
            self._optimizer.step()
        return float(loss.detach())

    def optimizer(self) -> torch.optim.Optimizer:
        """With the state of every parameter."""
        return self._in_backward.gather() if self._in_backward else self._optimizer

    def close(self) -> None:
        """Removes what lies on disk."""
        if self._disk is not None:
            self._disk.close()


def _whole_loss(model: nn.Module, loss_fn: LossFunction) -> Callable[[Batch], Tensor]:
    def loss(batch: Batch) -> Tensor:
        return loss_fn(model(*batch[:-1]), batch[-1])

    return loss


def compiler(*, small: bool = False) -> str:
    """The best of torch.compile's backends here: inductor writes C++, which takes a minute."""
    found = any(map(shutil.which, ("g++", "clang++")))
    return "inductor" if found and not small else "aot_eager"


def compiled(
    loss: Callable[[Batch], Tensor], budget: float, backend: str
) -> Callable[[Batch], Tensor]:
    """Model and loss as one graph, its activations chosen for the budget."""
    import torch._functorch.config as functorch_config

    functorch_config.activation_memory_budget = budget
    answer: Callable[[Batch], Tensor] = torch.compile(
        loss, backend=backend, dynamic=False, fullgraph=True
    )
    return answer
