"""What a checkpoint holds, and how it comes back: model, optimizer, generator, step number.

A checkpoint is the state as a step has just returned. It is streamed from where the values are, so
it needs no RAM beyond a buffer, whatever is parked on flash. Invariant: a checkpoint that does not
fit model and optimizer is refused before anything has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from poet_runtime.checkpointing.slots import Checkpoint, CheckpointSlots, Part, StoredPart
from poet_runtime.flash.flash_file import blocks_of, memory_view
from poet_runtime.program import Owner, TensorSpec
from poet_runtime.replaying.owners import Holders
from poet_runtime.replaying.parking import Parking
from poet_runtime.replaying.replay import spec_of, tensor_of
from poet_runtime.replaying.wholes import Whole
from poet_runtime.torch_device import generator_of

Key = tuple[str, str, str]
"""Owner (model, optimizer, group, generator), name, key of the state or hyperparameter."""

_GENERATOR: Key = ("generator", "", "")
_DEVICE_GENERATOR: Key = ("generator", "", "device")
_TABLE_ROOM = 512
"""Bytes of table reserved for each part; a longer table grows the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What `resume` found. `steps`: completed steps, 0 where there was no checkpoint. `notes`: the
    user's. `skipped`: slots that were not whole, and why."""

    steps: int
    notes: Mapping[str, Any]
    skipped: tuple[str, ...] = ()


class TrainingState:
    """Model and optimizer as parts of a checkpoint."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        holders: Holders,
        parking: Parking,
    ) -> None:
        self._optimizer, self._parking = optimizer, parking
        self._device = holders.device
        self._model = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        # A parameter of the optimizer that the model does not have goes by its place.
        self._groups = [
            [names.get(id(parameter), f"#{i}.{j}") for j, parameter in enumerate(group["params"])]
            for i, group in enumerate(optimizer.param_groups)
        ]
        owners = {Owner.MODULE: "model", Owner.OPTIMIZER: "optimizer"}
        self._bound: dict[Key, Whole] = {
            (owners[owner], name, state_key): whole
            for (owner, name, state_key), whole in holders.wholes.items()
            if owner in owners
        }

    def size_bytes(self) -> int:
        """Bytes that the parts will take, in blocks, with room for the table."""
        sizes = [self._parking.size_bytes(whole) for whole in self._bound.values()]
        sizes += [
            tensor.numel() * tensor.element_size()
            for name, tensor in self._model.items()
            if ("model", name, "") not in self._bound
        ]
        counters = 4 * sum(map(len, self._groups))  # one-element tensors, a block each
        parts = len(sizes) + counters + 8
        return sum(map(blocks_of, sizes)) + blocks_of(1) * (counters + 8) + parts * _TABLE_ROOM

    def facts(self, steps: int, notes: Mapping[str, Any]) -> dict[str, Any]:
        """What is no tensor, as JSON."""
        groups = [
            {
                key: _encoded(value, f"parameter group {number}, {key}")
                for key, value in group.items()
                if key != "params" and not isinstance(value, torch.Tensor)
            }
            for number, group in enumerate(self._optimizer.param_groups)
        ]
        state = {
            name: {
                key: _encoded(value, f"optimizer state {name}, {key}")
                for key, value in self._state_of(parameter).items()
                if not isinstance(value, torch.Tensor)
            }
            for name, parameter in self._trained()
        }
        return {
            "steps": steps,
            "notes": dict(notes),
            "names": self._groups,
            "groups": groups,
            "state": {name: values for name, values in state.items() if values},
        }

    def parts(self) -> Iterator[Part]:
        """Every tensor of the state; while it is parked."""
        for name, tensor in self._model.items():
            yield self._part(("model", name, ""), tensor)
        for name, parameter in self._trained():
            for key, value in self._state_of(parameter).items():
                if isinstance(value, torch.Tensor):
                    yield self._part(("optimizer", name, key), value)
        for number, group in enumerate(self._optimizer.param_groups):
            for key, value in group.items():
                if isinstance(value, torch.Tensor):
                    yield self._part(("group", str(number), key), value)
        yield self._part(_GENERATOR, torch.get_rng_state())
        if self._device.type != "cpu":
            yield self._part(_DEVICE_GENERATOR, generator_of(self._device).get_state())

    def check(self, checkpoint: Checkpoint) -> dict[Key, StoredPart]:
        """The parts by key. Raises DataError (`checkpoint_mismatch`) where they do not fit."""
        parts = {_key(part): part for part in checkpoint.parts}
        stored = {name for owner, name, _ in parts if owner == "model"}
        if stored != set(self._model):
            odd = sorted(stored ^ set(self._model))
            raise _mismatch(f"the tensors of the model; {odd[0]!r} is in only one of the two")
        if checkpoint.facts["names"] != self._groups:
            raise _mismatch("the parameter groups of the optimizer")
        for key, part in parts.items():
            tensor = self._model.get(key[1]) if key[0] == "model" else None
            whole = self._bound.get(key)
            if whole is not None:
                expected = (str(whole.spec.dtype), tuple(whole.spec.size))
            elif tensor is not None:
                expected = (str(tensor.dtype), tuple(tensor.shape))
            else:
                continue
            found = (part.facts["dtype"], tuple(part.facts["size"]))
            if found != expected:
                raise _mismatch(f"{expected[0]} {expected[1]} for {key[1]!r}; it has {found}")
        return parts

    def restore(
        self,
        slots: CheckpointSlots,
        checkpoint: Checkpoint,
        parts: Mapping[Key, StoredPart],
        progress: Callable[[], None],
    ) -> None:
        """Puts a checkpoint that has been checked into model, optimizer and generator, one tensor
        at a time; nothing may be parked."""
        for parameters in self._optimizer.param_groups:
            for parameter in parameters["params"]:
                self._optimizer.state.pop(parameter, None)
        trained = dict(self._trained())
        for (owner, name, key), part in parts.items():
            value = _read(slots, checkpoint, part)
            progress()
            if owner == "model":
                self._model[name].data.copy_(value)
            elif owner == "optimizer":
                beside = part.facts.get("on_device", False)
                self._optimizer.state[trained[name]][key] = (
                    value.to(self._device) if beside else value
                )
            elif owner == "group":
                self._set_group(int(name), key, value)
            elif key:
                generator_of(self._device).set_state(value)
            else:
                torch.set_rng_state(value)
        for name, values in checkpoint.facts["state"].items():
            for key, value in values.items():
                self._optimizer.state[trained[name]][key] = _decoded(value)
        for number, group in enumerate(checkpoint.facts["groups"]):
            for key, value in group.items():
                self._set_group(number, key, _decoded(value))

    def _set_group(self, number: int, key: str, value: Any) -> None:
        group = self._optimizer.param_groups[number]
        if isinstance(value, torch.Tensor) and isinstance(group.get(key), torch.Tensor):
            group[key].copy_(value)  # a scheduler may hold the tensor
        else:
            group[key] = value

    def _trained(self) -> Iterator[tuple[str, torch.Tensor]]:
        for names, group in zip(self._groups, self._optimizer.param_groups, strict=True):
            yield from zip(names, group["params"], strict=True)

    def _state_of(self, parameter: torch.Tensor) -> Mapping[str, Any]:
        state: Mapping[str, Any] = self._optimizer.state.get(parameter, {})
        return state

    def _part(self, key: Key, tensor: torch.Tensor) -> Part:
        whole = self._bound.get(key)
        if whole is not None:
            return Part(
                facts=_facts(key, whole.spec, self._device),
                size_bytes=self._parking.size_bytes(whole),
                pieces=lambda: self._parking.pieces(whole),
            )
        own = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        memory = own.untyped_storage()
        return Part(
            facts=_facts(key, spec_of(own, -1), tensor.device),
            size_bytes=memory.nbytes(),
            pieces=lambda: [memory_view(memory.data_ptr(), memory.nbytes())] * bool(own.numel()),
        )


def _facts(key: Key, spec: TensorSpec, device: torch.device) -> dict[str, Any]:
    elsewhere = {} if device.type == "cpu" else {"on_device": True}
    return {
        **elsewhere,
        "key": key,
        "dtype": str(spec.dtype),
        "size": spec.size,
        "stride": spec.stride,
        "offset": spec.offset,
    }


def _key(part: StoredPart) -> Key:
    owner, name, key = part.facts["key"]
    return owner, name, key


def _read(slots: CheckpointSlots, checkpoint: Checkpoint, part: StoredPart) -> torch.Tensor:
    facts = part.facts
    base = torch.empty(part.size_bytes, dtype=torch.uint8, device="cpu")
    if part.size_bytes:
        slots.read(checkpoint, part, base.data_ptr())
    dtype = getattr(torch, facts["dtype"].removeprefix("torch."), None)
    if not isinstance(dtype, torch.dtype):
        raise _mismatch(f"types that this PyTorch knows, not {printable(facts['dtype'])}")
    spec = TensorSpec(
        storage=-1, dtype=dtype, size=tuple(facts["size"]), stride=tuple(facts["stride"]),
        offset=facts["offset"],
    )  # fmt: skip
    return tensor_of(base, spec)


def _encoded(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encoded(item, where) for item in value]}
    raise UsageError(
        f"{where}: expected a number, text, list or tensor to put into a checkpoint, got a "
        f"{type(value).__name__}.",
        code="checkpoint_value",
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, dict):
        ((kind, items),) = value.items()
        decoded = [_decoded(item) for item in items]
        return tuple(decoded) if kind == "tuple" else decoded
    return value


def _mismatch(what: str) -> DataError:
    return DataError(
        f"The checkpoint does not fit: expected {what}.",
        code="checkpoint_mismatch",
        hint="Resume with the model and optimizer that wrote it, or give another checkpoint_path.",
    )
