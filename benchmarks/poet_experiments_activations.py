"""A whole training step seen as POET's paper counts it: activations only.

    parameters, buffers, optimizer state    0 bytes: they lie in RAM of their own
    gradients of parameters                 0 bytes: consumed where they are made
    updates and write-backs                 gone, with what nobody touches after that
    workspace of kernels                    0 bytes: POET's lists of layers have none
    inputs, activations, their gradients    as they were

A gradient of a parameter is what an optimizer's update touches, and what is only ever added into
such a gradient. Whole-step scopes count all of this. Invariant: ops keep their order, and every
remaining op its flops.
"""

from __future__ import annotations

from dataclasses import replace

from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph

_OUTSIDE = frozenset({Role.PARAMETER, Role.BUFFER, Role.OPTIMIZER_STATE})


def activations_only(graph: TrainingGraph) -> TrainingGraph:
    """The graph of the forward and backward pass in which only activations take memory."""
    ops = [op for op in graph.ops if op.phase is not Phase.UPDATE]
    gradients = parameter_gradients(graph)
    touched = {storage for op in ops for storage in op.touches}
    kept = [s for s in graph.storages if s.id in touched or s.result]
    number = {storage.id: place for place, storage in enumerate(kept)}
    storages = tuple(
        replace(
            storage,
            id=number[storage.id],
            size_bytes=0 if _counts_nothing(storage, gradients) else storage.size_bytes,
        )
        for storage in kept
    )
    return replace(
        graph, storages=storages, ops=tuple(_renamed(op, i, number) for i, op in enumerate(ops))
    )


def parameter_gradients(graph: TrainingGraph) -> frozenset[int]:
    """The storages that hold gradients of parameters, or parts of them before they are added up."""
    found = {
        storage
        for op in graph.ops
        if op.phase is Phase.UPDATE
        for storage in op.touches
        if graph.storages[storage].role is Role.GRADIENT
    }
    readers: dict[int, list[Op]] = {}
    for op in graph.ops:
        for storage in op.reads:
            readers.setdefault(storage, []).append(op)
    # Backwards: what is added into a gradient is made before it is added.
    for op in reversed(graph.ops):
        for storage in op.writes:
            added = readers.get(storage, [])
            if (
                graph.storages[storage].role is Role.GRADIENT
                and added
                and all(found.intersection(one.mutates) for one in added)
            ):
                found.add(storage)
    return frozenset(found)


def _counts_nothing(storage: Storage, gradients: frozenset[int]) -> bool:
    return storage.role in _OUTSIDE or storage.id in gradients


def _renamed(op: Op, position: int, number: dict[int, int]) -> Op:
    def of(storages: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(number[storage] for storage in storages)

    return replace(
        op,
        id=position,
        reads=of(op.reads),
        writes=of(op.writes),
        mutates=of(op.mutates),
        workspace_bytes=0,
    )
