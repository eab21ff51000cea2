"""Wholes: the owners' tensors, and the storages that each is made of.

A tensor of the model is one storage. A state tensor whose parameter is updated in chunks is a storage
for each chunk: some of its rows, one part after the other (`Binding.part`). Invariant: the bytes of
the parts, in their order, are the bytes of the whole, so nobody outside needs to know of parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from poet_runtime.program import Binding, Owner, TensorSpec

WholeKey = tuple[Owner, str, str]
"""Owner, name, key of the optimizer's state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A tensor of an owner. `spec`: how it lies when it is in one piece; its storage is the first
    part's. `parts`: the bindings of its storages."""

    spec: TensorSpec
    parts: tuple[Binding, ...]

    @property
    def split(self) -> bool:
        """Whether it is more than one storage."""
        return len(self.parts) > 1

    @property
    def storages(self) -> tuple[int, ...]:
        """In the order of the rows."""
        return tuple(part.spec.storage for part in self.parts)

    def blank(self) -> torch.Tensor:
        """New memory for a whole that is split, its content undefined."""
        return torch.empty(self.spec.size, dtype=self.spec.dtype, device="cpu")

    def views(self, tensor: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """The storages of a whole that is split, each with its rows of `tensor`."""
        for part in self.parts:
            yield part.spec.storage, rows_in(tensor, part)


def rows_in(tensor: torch.Tensor, part: Binding) -> torch.Tensor:
    """The rows of an owner's tensor that a part of it holds, as a view."""
    assert part.part is not None, "only a part has rows of its own"
    first, count = part.part
    return tensor[first : first + count]


def key_of(binding: Binding) -> WholeKey:
    """What names the tensor of a binding; a constant goes by its storage."""
    return binding.owner, binding.name or f"#{binding.spec.storage}", binding.state_key


def wholes_of(bindings: Iterable[Binding]) -> dict[WholeKey, Whole]:
    """The owners' tensors, in the order of their bindings."""
    found: dict[WholeKey, list[Binding]] = {}
    for binding in bindings:
        found.setdefault(key_of(binding), []).append(binding)
    return {key: Whole(spec=_joined(parts), parts=tuple(parts)) for key, parts in found.items()}


def _joined(parts: list[Binding]) -> TensorSpec:
    first = parts[0].spec
    rows = sum(part.part[1] for part in parts if part.part is not None)
    return replace(first, size=(rows, *first.size[1:])) if rows else first
