"""Draft: an op on its way from the exported program to the training graph.

The passes of the tracer hand on tuples of drafts. Storages have provisional numbers here, described
by `Block`s; the last pass renumbers them. Invariant: `mutates` says which of the argument storages
an op changes; what it reads and writes follows from its arguments and outputs.

    export -> storages (drafts) -> prune -> accumulation -> placement -> trace (graph and calls)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from poet_core.graph import Phase, Role
from poet_runtime.program import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A storage before it is numbered for good."""

    name: str
    size_bytes: int
    role: Role
    persistent: bool = False

    @property
    def transient(self) -> bool:
        """Whether it is born inside the step."""
        return not self.persistent and self.role is not Role.INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An op: how it is run (see OpCall) and what is known about it. `unused_bytes`: what it returns
    and nobody wants. `touched_bytes`: what it reads and writes, where that is less than all of the
    storages; None for all of them."""

    name: str
    kind: str
    phase: Phase
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[TensorSpec | None, ...] = ()
    mutates: tuple[int, ...] = ()
    module: str = ""
    flops: int = 0
    unused_bytes: int = 0
    touched_bytes: int | None = None
    recomputable: bool = True
    random: bool = False

    @property
    def operands(self) -> tuple[int, ...]:
        """Storages of the arguments, each once, in the order of the arguments."""
        found = (spec.storage for spec in specs_in((self.args, self.kwargs)))
        return tuple(dict.fromkeys(found))

    @property
    def reads(self) -> tuple[int, ...]:
        """Storages that it reads and leaves as they are."""
        return tuple(storage for storage in self.operands if storage not in self.mutates)

    @property
    def writes(self) -> tuple[int, ...]:
        """Storages that it fills, whatever they held."""
        return tuple(dict.fromkeys(spec.storage for spec in self.outputs if spec is not None))

    @property
    def changes(self) -> tuple[int, ...]:
        """Storages that are another version afterwards."""
        return self.writes + self.mutates

    def renumbered(self, storage_of: Mapping[int, int]) -> Draft:
        """The same op on other storages; numbers that the mapping does not name stay."""

        def moved(spec: TensorSpec) -> TensorSpec:
            return replace(spec, storage=storage_of.get(spec.storage, spec.storage))

        return replace(
            self,
            args=map_specs(moved, self.args),
            kwargs=map_specs(moved, dict(self.kwargs)),
            outputs=tuple(spec and moved(spec) for spec in self.outputs),
            mutates=tuple(storage_of.get(storage, storage) for storage in self.mutates),
        )


def map_specs(change: Callable[[TensorSpec], Any], value: Any) -> Any:
    """`value` with every TensorSpec in its lists, tuples and dicts replaced by `change` of it."""
    if isinstance(value, TensorSpec):
        return change(value)
    if isinstance(value, tuple | list):
        items = [map_specs(change, item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, dict):
        return {key: map_specs(change, item) for key, item in value.items()}
    return value


def specs_in(value: Any) -> Iterator[TensorSpec]:
    """Every TensorSpec in the lists, tuples and mappings of `value`, in order."""
    if isinstance(value, TensorSpec):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from specs_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from specs_in(item)
