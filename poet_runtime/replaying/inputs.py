"""The batch of a step: checked against the trace, and in memory that the step owns.

The plan counts an input until it frees it, so the step must hold the only reference: a tensor of
the caller is copied, or taken over where the caller donates it. Invariant: nothing of the caller's
is changed before the whole batch has been found to fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from poet_core.errors import UsageError
from poet_runtime.kernels import extent_bytes
from poet_runtime.program import Owner, Program, TensorSpec
from poet_runtime.replaying.replay import lies_as, tensor_of

Batch = tuple[Any, ...] | dict[str, Any]
LossFunction = Callable[[Any, Any], torch.Tensor]


def as_batch(batch: Any) -> Any:
    """A mapping of any type (a tokenizer's, say) as a dictionary; anything else as it is."""
    return dict(batch) if isinstance(batch, Mapping) else batch


class Inputs:
    """Takes batches that look like `example`."""

    def __init__(self, program: Program, example: Batch) -> None:
        self._device = program.device
        self._names = list(example) if isinstance(example, dict) else None
        leaves, self._form = pytree.tree_flatten(example)
        self._shapes = [
            (tuple(leaf.shape), leaf.dtype) for leaf in leaves if isinstance(leaf, torch.Tensor)
        ]
        self._constants = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        self._sizes = [storage.size_bytes for storage in program.graph.storages]
        self._bindings = [b for b in program.bindings if b.owner is Owner.BATCH]
        self._dense = {  # what torch makes in one call, in a storage of the traced size
            b.spec.storage
            for b in self._bindings
            if not b.spec.offset and extent_bytes(b.spec) == self._sizes[b.spec.storage]
        }

    def batch_of(self, arguments: tuple[Any, ...]) -> Batch:
        """The batch that a step was called with: its arguments, or the mapping that is the only
        one, in the example's order. Raises UsageError (`batch_mismatch`)."""
        if self._names is None:
            return arguments
        one = arguments[0] if len(arguments) == 1 else None
        if not isinstance(one, Mapping) or set(one) != set(self._names):
            got = (
                f"{sorted(one)!s:.100}" if isinstance(one, Mapping) else f"{len(arguments)} values"
            )
            raise _mismatch(f"one mapping with {sorted(self._names)}", got)
        return {name: one[name] for name in self._names}

    def other_shapes(self, batch: Batch) -> tuple[tuple[int, ...], ...] | None:
        """The shapes of a batch that differs from the example in some sizes and in nothing else."""
        leaves, form = pytree.tree_flatten(batch)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        kinds = [(tensor.dtype, tensor.dim()) for tensor in tensors]
        constants = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        alike = form == self._form and constants == self._constants
        if not alike or kinds != [(dtype, len(shape)) for shape, dtype in self._shapes]:
            return None
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        return None if shapes == tuple(shape for shape, _ in self._shapes) else shapes

    def check(self, batch: Batch) -> list[torch.Tensor]:
        """The tensors of a batch that fits.

        Raises UsageError (`batch_mismatch`) where it differs from the example in structure, shape,
        type, device or a value that is no tensor.
        """
        leaves, form = pytree.tree_flatten(batch)
        if form != self._form:
            raise _mismatch("a batch with the structure of the example batch", str(form)[:120])
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        constants = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        if len(tensors) != len(self._shapes) or constants != self._constants:
            expected = f"the values of the example batch, {self._constants!r:.60}"
            raise _mismatch(expected, f"{constants!r:.60}")
        for position, (tensor, (shape, dtype)) in enumerate(
            zip(tensors, self._shapes, strict=True)
        ):
            same = tuple(tensor.shape) == shape and tensor.dtype == dtype
            if not same or tensor.device != self._device:
                raise _mismatch(
                    f"{dtype} {shape} on {self._device} for tensor {position} of the batch",
                    f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
                )
        return tensors

    def take(self, tensors: list[torch.Tensor], *, donate: bool) -> dict[int, torch.Tensor]:
        """A checked batch by storage, in memory of its own. `donate`: the caller's is emptied."""
        taken: dict[int, torch.Tensor] = {}
        for binding in self._bindings:
            tensor, spec = tensors[binding.position], binding.spec
            size_bytes = self._sizes[spec.storage]
            whole = tensor.untyped_storage().nbytes() == size_bytes and lies_as(tensor, spec)
            if donate and whole:
                taken[spec.storage] = tensor.data
            else:
                taken[spec.storage] = self._blank(spec).copy_(tensor.detach())
        if donate:
            for tensor in tensors:
                tensor.data = torch.empty(0, dtype=tensor.dtype, device=self._device)
        return taken

    def _blank(self, spec: TensorSpec) -> torch.Tensor:
        """Memory of exactly the storage's size, as `spec` lies in it."""
        if spec.storage in self._dense:
            return torch.empty_strided(
                spec.size, spec.stride, dtype=spec.dtype, device=self._device
            )
        size_bytes = self._sizes[spec.storage]
        return tensor_of(torch.empty(size_bytes, dtype=torch.uint8, device=self._device), spec)


def _mismatch(expected: str, got: str) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {got}.",
        code="batch_mismatch",
        hint="A step is traced for one shape: drop the last, smaller batch (drop_last=True), or "
        "give on_new_shape='replan' for batches that differ in size only.",
    )
