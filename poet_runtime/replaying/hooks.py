"""Hooks that show model and optimizer their true values whenever somebody looks at them.

state_dict(), load_state_dict(), a forward call of the model or of any module in it, and a copy of
one (deepcopy, pickle, torch.save) first bring back what a TrainStep has parked on flash. Invariant:
the hooks hold the TrainStep, so that the values live as long as the model does; what is copied is a
model or optimizer without a step: its hooks do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

_COPIED_BY = "__reduce_ex__"
"""What copy and pickle ask an object for, the object itself before its class."""


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


class _RevealingCopy:
    """Stands in for `owner.__reduce_ex__`: the true values first, and no trace of itself."""

    def __init__(self, owner: Any, action: Callable[[], None]) -> None:
        self._owner, self._action = owner, action
        # Another TrainStep's, on the same object: it has its own values to bring back.
        self._before: _RevealingCopy | None = vars(owner).get(_COPIED_BY)

    def __call__(self, protocol: Any) -> Any:
        self.reveal()
        reduced: Any = getattr(type(self._owner), _COPIED_BY)(self._owner, protocol)
        if not isinstance(reduced, tuple) or len(reduced) < 3 or not isinstance(reduced[2], dict):
            return reduced
        state = {key: value for key, value in reduced[2].items() if key != _COPIED_BY}
        return (*reduced[:2], state, *reduced[3:])

    def reveal(self) -> None:
        """Everybody's values."""
        if self._before is not None:
            self._before.reveal()
        self._action()

    def install(self) -> None:
        """On the object itself, not its class."""
        vars(self._owner)[_COPIED_BY] = self

    def remove(self) -> None:
        """Takes this one out of the chain, wherever in it it stands."""
        newest = vars(self._owner).get(_COPIED_BY)
        if newest is self:
            del vars(self._owner)[_COPIED_BY]
            if self._before is not None:
                self._before.install()
            return
        while newest is not None and newest._before is not self:
            newest = newest._before
        if newest is not None:
            newest._before = self._before


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
    for owner in (*model.modules(), optimizer):
        copying = _RevealingCopy(owner, action)
        copying.install()
        handles.callback(copying.remove)
    return handles
