"""The last pass: storages numbered for good, and graph, calls and bindings put together.

Numbers: what persists first, then the inputs that are used, then the rest in the order in which it
is born. Invariant: `calls[i]` touches exactly what op i of the graph reads, writes and mutates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch

from poet_core.graph import Op, Role, Storage, TrainingGraph
from poet_runtime.program import Binding, OpCall, Owner, Program, TensorSpec, UpdateRule
from poet_runtime.step_options import StepOptions
from poet_runtime.torch_device import generator_state_bytes
from poet_runtime.tracing.drafts import Block, Draft
from poet_runtime.tracing.measure import Measurement
from poet_runtime.tracing.storages import Lowered


def assembled(
    lowered: Lowered,
    drafts: Sequence[Draft],
    measured: Sequence[Measurement],
    states: Mapping[tuple[str, str], tuple[TensorSpec, ...]],
    totals: Mapping[str, TensorSpec],
    rules: tuple[UpdateRule, ...],
    conditions: Mapping[str, str],
    name: str,
    options: StepOptions,
) -> Program:
    """The program of a step. `drafts` and `measured` in document order; `states` by parameter and key,
    each in parts by rows or as one; `totals`, where gradients add up, by parameter."""
    assert lowered.loss is not None
    numbering = _numbering(lowered, drafts)
    loss = _moved(lowered.loss, numbering)
    graph = TrainingGraph(
        storages=tuple(
            _storage(number, lowered.blocks[block], result=number == loss.storage)
            for block, number in numbering.items()
        ),
        ops=tuple(
            _op(at, draft, numbering, lowered.blocks, measured[at])
            for at, draft in enumerate(drafts)
        ),
        rng_state_bytes=_rng_state_bytes(drafts, lowered.device),
        conditions=conditions,
        name=name,
    )
    return Program(
        graph=graph,
        calls=tuple(_call(draft, numbering) for draft in drafts),
        bindings=tuple(_bindings(lowered, states, totals, numbering)),
        loss=loss,
        update_rules=rules,
        options=options,
    )


def _rng_state_bytes(drafts: Sequence[Draft], device: torch.device) -> int:
    """What a random op that runs again holds: the state that it began with and, while it runs
    again, the state that the generator has by then."""
    return 2 * generator_state_bytes(device) if any(draft.random for draft in drafts) else 0


def _numbering(lowered: Lowered, drafts: Sequence[Draft]) -> dict[int, int]:
    """Final numbers: what persists, the inputs that are used, then the rest as it is born."""
    touched = dict.fromkeys(
        storage for draft in drafts for storage in draft.operands + draft.changes
    )
    persistent = [at for at, block in enumerate(lowered.blocks) if block.persistent]
    inputs = [spec.storage for spec in lowered.batch if spec.storage in touched]
    born = [storage for storage in touched if lowered.blocks[storage].transient]
    return {block: number for number, block in enumerate((*persistent, *inputs, *born))}


def _storage(number: int, block: Block, *, result: bool) -> Storage:
    return Storage(
        id=number,
        name="loss" if result else block.name,
        size_bytes=block.size_bytes,
        role=Role.RESULT if result else block.role,
        persistent=block.persistent,
        result=result,
    )


def _op(
    number: int,
    draft: Draft,
    numbering: Mapping[int, int],
    blocks: Sequence[Block],
    measured: Measurement,
) -> Op:
    def numbered(storages: Iterable[int]) -> tuple[int, ...]:
        return tuple(numbering[storage] for storage in storages)

    touched = (*draft.reads, *draft.writes, *draft.mutates)
    return Op(
        id=number,
        name=draft.name,
        kind=draft.kind,
        phase=draft.phase,
        reads=numbered(draft.reads),
        writes=numbered(draft.writes),
        mutates=numbered(draft.mutates),
        module=draft.module,
        flops=draft.flops,
        bytes_moved=sum(blocks[storage].size_bytes for storage in touched)
        if draft.touched_bytes is None
        else draft.touched_bytes,
        workspace_bytes=measured.workspace_bytes,
        seconds=measured.seconds,
        recomputable=draft.recomputable,
        random=draft.random,
    )


def _call(draft: Draft, numbering: Mapping[int, int]) -> OpCall:
    moved = draft.renumbered(numbering)
    return OpCall(
        function=moved.function, args=moved.args, kwargs=moved.kwargs, outputs=moved.outputs
    )


def _moved(spec: TensorSpec, numbering: Mapping[int, int]) -> TensorSpec:
    return replace(spec, storage=numbering[spec.storage])


def _bindings(
    lowered: Lowered,
    states: Mapping[tuple[str, str], tuple[TensorSpec, ...]],
    totals: Mapping[str, TensorSpec],
    numbering: Mapping[int, int],
) -> Iterable[Binding]:
    for name, spec in {**lowered.parameters, **lowered.buffers}.items():
        yield Binding(spec=_moved(spec, numbering), owner=Owner.MODULE, name=name)
    for (name, key), specs in states.items():
        first = 0
        for spec in specs:
            yield Binding(
                spec=_moved(spec, numbering),
                owner=Owner.OPTIMIZER,
                name=name,
                state_key=key,
                part=(first, spec.size[0]) if len(specs) > 1 else None,
            )
            first += spec.size[0] if len(specs) > 1 else 0
    for name, spec in totals.items():
        yield Binding(spec=_moved(spec, numbering), owner=Owner.GRADIENT, name=name)
    for spec, value in lowered.constants:
        yield Binding(spec=_moved(spec, numbering), owner=Owner.CONSTANT, value=value)
    for position, spec in enumerate(lowered.batch):
        if spec.storage in numbering:
            yield Binding(spec=_moved(spec, numbering), owner=Owner.BATCH, position=position)
