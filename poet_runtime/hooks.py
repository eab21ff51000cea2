"""Hooks that show model and optimizer their true values whenever somebody looks at them.

state_dict(), load_state_dict() and a forward call of the model or of any module in it first bring
back what a TrainStep has parked on flash. Invariant: the hooks hold the TrainStep, so that the
values live as long as the model does; a copy of the model (deepcopy, pickle) has hooks that do
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn


class _Reveal:
    """A hook of any signature that calls `action`."""

    def __init__(self, action: Callable[[], None] | None = None) -> None:
        self._action = action

    def __call__(self, *_: Any, **__: Any) -> None:
        if self._action is not None:
            self._action()

    def __deepcopy__(self, _memo: Any) -> _Reveal:
        return _Reveal()

    def __reduce__(self) -> tuple[type[_Reveal], tuple[()]]:
        return _Reveal, ()


def install(
    model: nn.Module, optimizer: torch.optim.Optimizer, action: Callable[[], None]
) -> ExitStack:
    """Calls `action` before anyone looks; closing the result removes the hooks."""
    hook, handles = _Reveal(action), ExitStack()
    for item in model.modules():
        module: Any = item  # torch leaves two of these methods untyped
        handles.callback(module.register_forward_pre_hook(hook, prepend=True).remove)
        handles.callback(module.register_state_dict_pre_hook(hook).remove)
        handles.callback(module.register_load_state_dict_pre_hook(hook).remove)
    handles.callback(optimizer.register_state_dict_pre_hook(hook).remove)
    handles.callback(optimizer.register_load_state_dict_pre_hook(hook).remove)
    return handles
