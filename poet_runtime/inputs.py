"""The batch of a step: checked against the trace, and in memory that the step owns.

The plan counts an input until it frees it, so the step must hold the only reference: a tensor of
the caller is copied, or taken over where the caller donates it. Invariant: nothing of the caller's
is changed before the whole batch has been found to fit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from poet_core.errors import UsageError
from poet_runtime.program import Owner, Program
from poet_runtime.replay import lies_as, tensor_of


class Inputs:
    """Takes batches that look like `example`."""

    def __init__(self, program: Program, example: tuple[Any, ...]) -> None:
        leaves, self._form = pytree.tree_flatten(example)
        self._shapes = [
            (tuple(leaf.shape), leaf.dtype) for leaf in leaves if isinstance(leaf, torch.Tensor)
        ]
        self._constants = [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]
        self._sizes = [storage.size_bytes for storage in program.graph.storages]
        self._bindings = [b for b in program.bindings if b.owner is Owner.BATCH]

    def check(self, batch: tuple[Any, ...]) -> list[torch.Tensor]:
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
            if not same or tensor.device.type != "cpu":
                raise _mismatch(
                    f"{dtype} {shape} on cpu for tensor {position} of the batch",
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
                own = tensor_of(torch.empty(size_bytes, dtype=torch.uint8, device="cpu"), spec)
                taken[spec.storage] = own.copy_(tensor.detach())
        if donate:
            for tensor in tensors:
                tensor.data = torch.empty(0, dtype=tensor.dtype, device="cpu")
        return taken


def _mismatch(expected: str, got: str) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {got}.",
        code="batch_mismatch",
        hint="A step is traced for one shape: drop the last, smaller batch, or build a second "
        "TrainStep for it.",
    )
