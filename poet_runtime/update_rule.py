"""What every update rule has: a parameter group's hyperparameters, state and step counts.

Invariant: a rule holds numbers only (a learning rate may be a 0-d tensor) and a call changes nothing
but its tensor arguments. Which storages a call touches is fixed when traced; hyperparameters that
decide it (`momentum` on or off, `weight_decay` on or off, `nesterov`, `maximize`, `centered`,
`fused`) may not change afterwards.

    GroupRule
    ├── SgdRule
    └── CountingRule          counts the steps of each parameter
        ├── AdamRule
        └── RmspropRule
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from poet_core.errors import ReplayError


class GroupRule(ABC):
    """What the rules share: one parameter group of one optimizer."""

    kind = ""
    flops_per_element = 0
    temporaries = 0
    """Tensors of the parameter's size that an update makes though the gradient is its scratch."""

    def __init__(self, group_index: int, names: Mapping[str, int], optimizer: Any) -> None:
        """`names`: the parameters that train, each with its position in the group."""
        self._group_index = group_index
        self._positions = dict(names)
        self._numbers: dict[str, Any] = {}
        self.structure = self._switches_of(self._group(optimizer))
        self.load(optimizer)
        self.begin_step(optimizer)

    @abstractmethod
    def load(self, optimizer: Any) -> None:
        """Takes over step counts and which state exists; see `program.UpdateRule`."""

    def begin_step(self, optimizer: Any) -> None:
        """Reads the hyperparameters; ReplayError (`optimizer_changed`) where the structure did."""
        group = self._group(optimizer)
        if self._switches_of(group) != self.structure:
            raise ReplayError(
                f"Parameter group {self._group_index}: expected {self.structure} as when the "
                f"step was traced, got {self._switches_of(group)}.",
                code="optimizer_changed",
                hint="Trace again after switching one of these on or off; their values may change.",
            )
        self._numbers = {
            # A learning rate that is a tensor stays one: its float32 arithmetic is part of the bits.
            key: value.detach().squeeze() if isinstance(value, Tensor) else value
            for key, value in group.items()
            if key not in ("params", "betas")
        }
        if "betas" in group:
            self._numbers["beta1"], self._numbers["beta2"] = map(float, group["betas"])

    @abstractmethod
    def end_step(self) -> None:
        """Counts a completed step."""

    @abstractmethod
    def store(self, optimizer: Any) -> None:
        """Writes step counts back; state of a parameter that has made no step is taken away."""

    @abstractmethod
    def state_keys(self) -> tuple[str, ...]:
        """The state tensors of each parameter, in the order in which `update` takes them."""

    @abstractmethod
    def wants_scratch(self) -> bool:
        """Whether an update is cheaper when it may overwrite the gradient."""

    @abstractmethod
    def update(self, name: str, scratch: bool, parameter: Tensor, gradient: Tensor, *state: Tensor) -> None:  # fmt: skip
        """Updates one parameter in place. `scratch`: the gradient may be overwritten."""

    def places(self) -> dict[str, tuple[int, int]]:
        """Group and position in the optimizer of each parameter."""
        return {name: (self._group_index, at) for name, at in self._positions.items()}

    def _group(self, optimizer: Any) -> dict[str, Any]:
        group: dict[str, Any] = optimizer.param_groups[self._group_index]
        return group

    def _state(self, optimizer: Any, name: str) -> Mapping[str, Any]:
        parameter = self._group(optimizer)["params"][self._positions[name]]
        state: Mapping[str, Any] = optimizer.state.get(parameter, {})
        return state

    def _unmake(self, optimizer: Any, names: Collection[str]) -> None:
        """Before the first step there is no state in torch; the runtime has made it of zeros."""
        for name in names:
            optimizer.state.pop(self._group(optimizer)["params"][self._positions[name]], None)

    @staticmethod
    def _switches_of(group: Mapping[str, Any]) -> dict[str, bool]:
        switches = (
            "momentum",
            "weight_decay",
            "nesterov",
            "maximize",
            "fused",
            "amsgrad",
            "centered",
        )
        return {key: bool(group[key]) for key in switches if key in group}


class CountingRule(GroupRule):
    """What rules share whose optimizer counts the steps of each parameter."""

    def load(self, optimizer: Any) -> None:
        states = {name: self._state(optimizer, name) for name in self._positions}
        self._steps = {name: float(state.get("step", 0.0)) for name, state in states.items()}
        self._unborn = {name for name, state in states.items() if "step" not in state}

    def end_step(self) -> None:
        self._steps = {name: count + 1 for name, count in self._steps.items()}
        self._unborn.clear()

    def store(self, optimizer: Any) -> None:
        fused = self.structure.get("fused", False)
        dtype = step_dtype(fused=fused)
        self._unmake(optimizer, self._unborn)
        group = self._group(optimizer)
        for name, count in self._steps.items():
            if name in self._unborn:
                continue
            parameter = group["params"][self._positions[name]]
            state = optimizer.state[parameter]
            step = state.get("step")
            if isinstance(step, Tensor):
                step.fill_(count)
            else:
                # Fused kernels read the count where the parameter is.
                state["step"] = torch.tensor(
                    count, dtype=dtype, device=parameter.device if fused else "cpu"
                )


def step_dtype(*, fused: bool) -> torch.dtype:
    """The dtype in which torch.optim keeps step counts (`_get_scalar_dtype`, torch 2.13)."""
    double = not fused and torch.get_default_dtype() == torch.float64
    return torch.float64 if double else torch.float32
