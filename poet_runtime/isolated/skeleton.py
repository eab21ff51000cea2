"""A model and an optimizer that only hold state: what a worker trains without the user's code.

TrainStep asks a model for its named tensors and an optimizer for its groups and state; the step
itself is in the program. So a module tree with the right names and a plain object with the right
dictionaries do, and neither the model's libraries nor torch.optim (whose constructor imports the
compiler, 67 MiB) are loaded. Invariant: every tensor has the name, shape and type of its original.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from poet_runtime.isolated.program import decoded, encoded
from poet_runtime.isolated.tensors import Key, bytes_of, dtype_named

_MODEL, _STATE, _GROUP, _CONSTANT = "model", "optimizer", "group", "constant"
_GRADIENT = "gradient"


class SkeletonOptimizer:
    """What update rules read and write of an optimizer: `param_groups` and `state`."""

    def __init__(self, param_groups: list[dict[str, Any]]) -> None:
        self.param_groups = param_groups
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)

    def register_state_dict_pre_hook(self, _hook: Callable[..., None]) -> _NoHook:
        """Nobody asks a worker for a state_dict, so there is nothing to hook."""
        return _NoHook()

    def register_load_state_dict_pre_hook(self, _hook: Callable[..., None]) -> _NoHook:
        """See `register_state_dict_pre_hook`."""
        return _NoHook()


class _NoHook:
    def remove(self) -> None:
        """There is none."""


def state_tensors(
    model: nn.Module, optimizer: Any, constants: Mapping[int, torch.Tensor]
) -> dict[Key, torch.Tensor]:
    """Every tensor that a worker needs: of model, optimizer and program, and the generator's."""
    found: dict[Key, torch.Tensor] = {("generator",): torch.get_rng_state()}
    for name, tensor in _named(model):
        found[_MODEL, name] = tensor.detach()
    for name, state in _states(model, optimizer):
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                found[_STATE, name, key] = value
    for number, group in enumerate(optimizer.param_groups):
        for key, value in group.items():
            if isinstance(value, torch.Tensor):
                found[_GROUP, str(number), key] = value.detach()
    for storage, value in constants.items():
        found[_CONSTANT, str(storage)] = value
    return found


def skeleton_document(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """What is no tensor: which names are parameters, the groups, numbers in the state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        "parameters": {n: p.requires_grad for n, p in model.named_parameters()},
        "groups": [
            {"names": [names[id(p)] for p in group["params"]], "values": group_values(group)}
            for group in optimizer.param_groups
        ],
        "state": {
            name: {k: encoded(v) for k, v in state.items() if not isinstance(v, torch.Tensor)}
            for name, state in _states(model, optimizer)
        },
    }


def group_values(group: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters of a group that are no tensors, encoded."""
    return {
        key: encoded(value)
        for key, value in group.items()
        if key != "params" and not isinstance(value, torch.Tensor)
    }


def hyperparameters(optimizer: Any) -> list[dict[str, Any]]:
    """The hyperparameters of every group, a learning rate that is a tensor included: JSON."""
    return [
        group_values(group)
        | {
            key: {"tensor": [str(value.dtype), list(value.shape), _hex(value)]}
            for key, value in group.items()
            if isinstance(value, torch.Tensor)
        }
        for group in optimizer.param_groups
    ]


def set_hyperparameters(optimizer: Any, groups: Sequence[Mapping[str, Any]]) -> None:
    """Puts `hyperparameters` into groups; a tensor that is there keeps its identity, since a
    scheduler may hold it."""
    for group, values in zip(optimizer.param_groups, groups, strict=False):
        for key, value in values.items():
            if not (isinstance(value, dict) and "tensor" in value):
                group[key] = decoded(value)
                continue
            dtype, size, text = value["tensor"]
            found = torch.frombuffer(bytearray.fromhex(text), dtype=dtype_named(dtype)).view(size)
            if isinstance(group.get(key), torch.Tensor):
                group[key].detach().copy_(found)
            else:
                group[key] = found


def build_skeleton(
    document: Mapping[str, Any], tensors: Mapping[Key, torch.Tensor]
) -> tuple[nn.Module, SkeletonOptimizer, dict[int, torch.Tensor]]:
    """The model, the optimizer and the program's constants (by storage)."""
    model = nn.Module()
    trains: Mapping[str, bool] = document["parameters"]
    parameters: dict[str, nn.Parameter] = {}
    constants: dict[int, torch.Tensor] = {}
    for key, tensor in tensors.items():
        if key[0] == _MODEL and key[1] in trains:
            parameters[key[1]] = nn.Parameter(tensor, requires_grad=trains[key[1]])
            _place(model, key[1], parameters[key[1]])
        elif key[0] == _MODEL:
            _place(model, key[1], tensor)
        elif key[0] == _CONSTANT:
            constants[int(key[1])] = tensor
    optimizer = SkeletonOptimizer(
        [
            {"params": [parameters[name] for name in group["names"]]}
            | {key: decoded(value) for key, value in group["values"].items()}
            for group in document["groups"]
        ]
    )
    for name, state in document["state"].items():
        optimizer.state[parameters[name]].update((k, decoded(v)) for k, v in state.items())
    for key, tensor in tensors.items():
        if key[0] == _STATE:
            optimizer.state[parameters[key[1]]][key[2]] = tensor
        elif key[0] == _GROUP:
            optimizer.param_groups[int(key[1])][key[2]] = tensor
    return model, optimizer, constants


def give_back(
    model: nn.Module,
    optimizer: Any,
    document: Mapping[str, Any],
    tensors: Mapping[Key, torch.Tensor],
) -> None:
    """Puts what a worker has written into the originals; the generator's state too."""
    named = dict(_named(model))
    parameters = dict(model.named_parameters())
    for parameter in parameters.values():
        parameter.grad = None
    with torch.no_grad():
        for key, tensor in tensors.items():
            if key[0] == _MODEL:
                named[key[1]].copy_(tensor)
            elif key[0] == _GRADIENT:  # of a round of calls that is not over
                parameters[key[1]].grad = tensor.clone()
            elif key[0] == _STATE:
                state = optimizer.state[parameters[key[1]]]
                known = state.get(key[2])
                if isinstance(known, torch.Tensor) and known.shape == tensor.shape:
                    known.copy_(tensor)
                else:
                    state[key[2]] = tensor.clone()
            elif key == ("generator",):
                torch.set_rng_state(tensor.clone())
    for name, state in document["state"].items():
        if state:
            optimizer.state[parameters[name]].update((k, decoded(v)) for k, v in state.items())


def _hex(tensor: torch.Tensor) -> str:
    whole = tensor.detach().contiguous()
    return bytes(bytes_of(whole)).hex()


def _named(model: nn.Module) -> Sequence[tuple[str, torch.Tensor]]:
    """Parameters, each once, and buffers, those that are not saved included."""
    return [*model.named_parameters(), *model.named_buffers()]


def _states(model: nn.Module, optimizer: Any) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        (name, optimizer.state[parameter])
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    ]


def _place(model: nn.Module, name: str, tensor: torch.Tensor) -> None:
    *path, last = name.split(".")
    module = model
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        inner = module._modules[part]
        assert inner is not None
        module = inner
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(last, tensor)
    else:
        module.register_buffer(last, tensor)
