"""The tests' own reference: a Program run in document order, in no budget, with real tensors.

It shares nothing with poet_runtime.replaying.replay. A storage is a byte tensor; a write takes over the
storage that the kernel returns, after checking that it is what the graph says.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from poet_runtime.program import Binding, Owner, Program, TensorSpec


def tensor(spec: TensorSpec, storages: dict[int, torch.UntypedStorage]) -> Tensor:
    return torch.empty(0, dtype=spec.dtype).set_(
        storages[spec.storage], spec.offset, spec.size, spec.stride
    )


class Interpreter:
    """Persistent storages stay here between steps; `run` is one step and returns the loss."""

    def __init__(self, program: Program, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.program = program
        self.optimizer = optimizer
        self.parameters = dict(model.named_parameters())
        self.owners = {**self.parameters, **dict(model.named_buffers())}
        self.storages: dict[int, torch.UntypedStorage] = {}
        for rule in program.update_rules:
            rule.load(optimizer)
        for binding in program.bindings:
            if binding.owner is not Owner.BATCH:
                self._store(binding, self._initial(binding))

    def _initial(self, binding: Binding) -> Tensor | None:
        if binding.owner is Owner.MODULE:
            return self.owners[binding.name].detach()
        if binding.owner is Owner.OPTIMIZER:
            parameter = self.parameters[binding.name]
            state = self.optimizer.state.get(parameter, {}).get(binding.state_key)
            if state is None or binding.part is None:
                return None if state is None else state.detach()
            return state.detach().narrow(0, *binding.part)
        assert binding.value is not None
        return binding.value

    def _store(self, binding: Binding, value: Tensor | None) -> None:
        size_bytes = self.program.graph.storages[binding.spec.storage].size_bytes
        flat = torch.zeros(size_bytes, dtype=torch.uint8)
        self.storages[binding.spec.storage] = flat.untyped_storage()
        if value is not None:
            tensor(binding.spec, self.storages).copy_(value)

    @torch.no_grad()
    def run(self, batch: tuple[Any, ...]) -> Tensor:
        program = self.program
        for rule in program.update_rules:
            rule.begin_step(self.optimizer)
        leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
        for binding in program.bindings:
            if binding.owner is Owner.BATCH:
                self._store(binding, leaves[binding.position])
        for op, call in zip(program.graph.ops, program.calls, strict=True):
            before = {s: self._bytes(s) for s in op.reads}
            given = self._run(call)
            assert all(torch.equal(self._bytes(s), old) for s, old in before.items()), op.name
            for spec, returned in given:
                size = program.graph.storages[spec.storage].size_bytes
                assert returned.untyped_storage().nbytes() == size, (op.name, op.kind)
                assert spec.storage in op.writes
                self.storages[spec.storage] = returned.untyped_storage()
        for rule in program.update_rules:
            rule.end_step()
        return tensor(program.loss, self.storages).clone()

    def _bytes(self, storage: int) -> Tensor:
        return torch.empty(0, dtype=torch.uint8).set_(self.storages[storage]).clone()

    def _run(self, call: Any) -> list[tuple[TensorSpec, Tensor]]:
        def real(value: Any) -> Any:
            if isinstance(value, TensorSpec):
                return tensor(value, self.storages)
            if isinstance(value, list | tuple):
                return type(value)(real(item) for item in value)
            return value

        kwargs = {key: real(value) for key, value in call.kwargs.items()}
        returned = call.function(*real(call.args), **kwargs)
        if not call.outputs:
            return []
        outputs = returned if isinstance(returned, tuple | list) else (returned,)
        pairs = zip(call.outputs, outputs, strict=True)
        return [(spec, output) for spec, output in pairs if spec is not None]

    def state(self) -> dict[str, Tensor]:
        """Every parameter, buffer and optimizer state by name."""
        parts: dict[str, list[Tensor]] = {}
        for binding in self.program.bindings:
            if binding.owner is Owner.MODULE:
                parts[binding.name] = [tensor(binding.spec, self.storages)]
            elif binding.owner is Owner.OPTIMIZER:
                key = f"{binding.name}.{binding.state_key}"
                parts.setdefault(key, []).append(tensor(binding.spec, self.storages))
        return {name: one[0] if len(one) == 1 else torch.cat(one) for name, one in parts.items()}


def eager_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The same names for a model and optimizer that eager PyTorch has trained."""
    result = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and key != "step":
                result[f"{name}.{key}"] = value
    return {name: value.detach() for name, value in result.items()}


def eager_step(
    model: nn.Module, loss_fn: Any, optimizer: torch.optim.Optimizer, batch: tuple[Any, ...]
) -> Tensor:
    optimizer.zero_grad()
    loss: Tensor = loss_fn(model(*batch[:-1]), batch[-1])
    loss.backward()
    optimizer.step()
    return loss.detach().clone()


def bits(value: Tensor) -> bytes:
    """The value's bytes: unlike ==, tells zeros apart and NaNs alike."""
    return value.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
