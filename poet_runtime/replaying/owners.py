"""Where the values of a step live outside it: the tensors of model, optimizer and trace.

A holder is a tensor object that others know (a Parameter, a buffer, an entry of the optimizer's
state): its `.data` is exchanged, never the object. Invariant: while a storage is parked on flash
its holder is an empty tensor, so that a use of it fails by its shape and never reads old numbers.
The parts of a split tensor (`wholes`) have holders of their own while it is parked, and it is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import torch
from torch import nn

from poet_core.errors import ReplayError
from poet_core.text import printable
from poet_runtime.program import Binding, Owner, Program, TensorSpec
from poet_runtime.replaying.replay import lies_as, tensor_of
from poet_runtime.replaying.wholes import Whole, WholeKey, key_of, rows_in, wholes_of

Holder = Callable[[], torch.Tensor]


class Holders:
    """The holders of a program's persistent storages, by storage id."""

    def __init__(
        self, program: Program, model: nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        self.device = program.device
        self._parameters = dict(model.named_parameters())
        self._optimizer = optimizer
        self._gradients: dict[int, torch.Tensor] = {}
        self._sizes = [storage.size_bytes for storage in program.graph.storages]
        persistent = {storage.id for storage in program.graph.storages if storage.persistent}
        self.bindings: dict[int, Binding] = {
            binding.spec.storage: binding
            for binding in program.bindings
            if binding.spec.storage in persistent
        }
        self.wholes: dict[WholeKey, Whole] = wholes_of(self.bindings.values())
        self._parts = {
            binding.spec.storage: torch.empty(0, dtype=binding.spec.dtype, device=self.device)
            for binding in self.bindings.values()
            if binding.part is not None
        }
        self._holders = {
            storage: self._holder(binding, model) for storage, binding in self.bindings.items()
        }

    def fetch(self, storage: int) -> torch.Tensor:
        """The value, as a tensor object of its own on the holder's memory."""
        return self._holders[storage]().data

    def assign(self, storage: int, tensor: torch.Tensor) -> None:
        """Makes `tensor` the value."""
        self._holders[storage]().data = tensor

    def empty(self, storage: int) -> None:
        """Takes the memory away from the holder."""
        dtype = self.bindings[storage].spec.dtype
        self.assign(storage, torch.empty(0, dtype=dtype, device=self.device))

    def blank(self, storage: int) -> torch.Tensor:
        """New memory for the storage, its content undefined, as its holder sees it."""
        base = torch.empty(self._sizes[storage], dtype=torch.uint8, device=self.device)
        return tensor_of(base, self.bindings[storage].spec)

    def move(self, storage: int) -> None:
        """Copies the value to new memory of exactly the storage's size."""
        tensor = self.blank(storage)
        tensor.copy_(self.fetch(storage))
        self.assign(storage, tensor)

    def check(self) -> None:
        """Raises ReplayError (`state_changed`) where a value is not of the traced shape and type."""
        for (owner, *_), whole in self.wholes.items():
            binding = whole.parts[0]
            absent = owner is Owner.OPTIMIZER and self._known_state(binding) is None
            if not absent and owner is not Owner.GRADIENT:  # torch itself checks .grad
                self._check(binding, whole.spec, self.held(whole))

    def prepare(self, storage: int) -> None:
        """Makes the holder what the trace saw: optimizer state that is not there yet is made of
        zeros, as torch.optim does, and a value that lies in memory otherwise is moved. A part gets
        a copy of its rows, and with the last of them the whole becomes empty."""
        binding = self.bindings[storage]
        if binding.part is not None:
            self._take_part(binding)
            return
        if binding.owner is Owner.OPTIMIZER and self._known_state(binding) is None:
            zeros = self.blank(storage).zero_()
            self._optimizer.state[self._parameters[binding.name]][binding.state_key] = zeros
        if binding.owner is Owner.GRADIENT:
            parameter = self._parameters[binding.name]
            known, parameter.grad = parameter.grad, None
            self._gradients[storage] = self.blank(storage) if known is None else known.detach()
        value = self.fetch(storage)
        whole = value.untyped_storage().nbytes() == self._sizes[storage]
        if not whole or not lies_as(value, binding.spec):
            self.move(storage)

    def drop_gradients(self) -> None:
        """Gradients are storages of the step; what eager code left in `.grad` is released, but for
        gradients that add up."""
        owned = {b.name for b in self.bindings.values() if b.owner is Owner.GRADIENT}
        for name, parameter in self._parameters.items():
            if name not in owned:
                parameter.grad = None

    def show_gradients(self, begun: Collection[str]) -> None:
        """Lets go of the gradients that add up, those of `begun` into `.grad`: where nothing has
        been added since the last update, there is none, as after zero_grad()."""
        for storage, gradient in self._gradients.items():
            name = self.bindings[storage].name
            if name in begun:
                self._parameters[name].grad = gradient
        self._gradients.clear()

    def held(self, whole: Whole) -> torch.Tensor:
        """The owner's tensor; an empty one where there is none, or where it is parked elsewhere."""
        binding = whole.parts[0]
        if not whole.split:
            return self.fetch(binding.spec.storage)
        known = self._known_state(binding)
        if known is None:
            return torch.empty(0, dtype=whole.spec.dtype, device=self.device)
        return known.data

    def give(self, whole: Whole, tensor: torch.Tensor) -> None:
        """Makes `tensor` the owner's; parts of it lose their memory."""
        if not whole.split:
            self.assign(whole.storages[0], tensor)
            return
        known = self._known_state(whole.parts[0])
        if known is not None:
            known.data = tensor
        for storage in whole.storages:
            self.empty(storage)

    def _take_part(self, binding: Binding) -> None:
        """Rows of an optimizer's state, or the zeros that they begin with, in their own memory."""
        storage, known = binding.spec.storage, self._known_state(binding)
        part = self.blank(storage)
        if known is None:
            part.zero_()
        else:
            part.copy_(rows_in(known, binding))
        self.assign(storage, part)
        if storage == self.wholes[key_of(binding)].storages[-1]:
            nothing = torch.empty(0, dtype=binding.spec.dtype, device=self.device)
            if known is None:
                state = self._optimizer.state[self._parameters[binding.name]]
                state[binding.state_key] = nothing
            else:
                known.data = nothing

    def _check(self, binding: Binding, spec: TensorSpec, value: torch.Tensor) -> None:
        same = tuple(value.shape) == spec.size and value.dtype == spec.dtype
        if not same or value.device != self.device:
            name = ".".join(part for part in (binding.name, binding.state_key) if part)
            raise ReplayError(
                f"{printable(name)}: expected {spec.dtype} {spec.size} on {self.device} as in the trace, got "
                f"{value.dtype} {tuple(value.shape)} on {value.device}.",
                code="state_changed",
                hint="Build a new TrainStep after changing shapes, types or devices.",
                details={"storage": spec.storage},
            )

    def _known_state(self, binding: Binding) -> torch.Tensor | None:
        state = self._optimizer.state.get(self._parameters[binding.name], {})
        value = state.get(binding.state_key)
        return value if isinstance(value, torch.Tensor) else None

    def _holder(self, binding: Binding, model: nn.Module) -> Holder:
        if binding.owner is Owner.CONSTANT:
            value = binding.value
            assert value is not None
            return lambda: value
        if binding.part is not None:
            part = self._parts[binding.spec.storage]
            return lambda: part
        if binding.owner is Owner.OPTIMIZER:

            def state_tensor() -> torch.Tensor:
                # load_state_dict replaces the whole dictionary, so it is looked up each time;
                # before the first step there may be none.
                tensor = self._known_state(binding)
                return torch.empty(0, device=self.device) if tensor is None else tensor

            return state_tensor
        if binding.owner is Owner.GRADIENT:
            storage, none_yet = binding.spec.storage, torch.empty(0, device=self.device)
            return lambda: self._gradients.get(storage, none_yet)
        path, _, attribute = binding.name.rpartition(".")
        module = model.get_submodule(path)

        def module_tensor() -> torch.Tensor:
            tensor: torch.Tensor = getattr(module, attribute)
            return tensor

        return module_tensor
