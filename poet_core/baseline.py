"""Keep-everything: the base of every percentage.

Document order, each storage freed after its last use, persistent ones resident throughout.
"""

from __future__ import annotations

from poet_core.costs import Costs
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Schedule
from poet_core.simulate import Judgement, simulate

_UNLIMITED_BYTES = 2**62


def keep_everything(graph: TrainingGraph) -> Schedule:
    """The schedule of a step that neither pages nor rematerializes."""
    last_touch: dict[int, int] = {}
    for op in graph.ops:
        last_touch.update((storage, op.id) for storage in op.touches)
    frees_after: dict[int, list[int]] = {}
    for storage in graph.storages:
        if not storage.persistent and not storage.result and storage.size_bytes:
            frees_after.setdefault(last_touch.get(storage.id, -1), []).append(storage.id)
    instructions = [Instruction(Do.FREE, storage) for storage in frees_after.get(-1, ())]
    for op in graph.ops:
        instructions.append(Instruction(Do.COMPUTE, op.id))
        instructions += [Instruction(Do.FREE, storage) for storage in frees_after.get(op.id, ())]
    persistent = tuple(s.id for s in graph.storages if s.persistent and s.size_bytes)
    return Schedule(start_ram=persistent, start_flash=(), instructions=tuple(instructions))


def judge_keep_everything(
    graph: TrainingGraph, costs: Costs, *, reserved_bytes: int = 0, alignment_bytes: int = 1
) -> Judgement:
    """Peak, seconds and joules of keep-everything under no budget."""
    budget = Budget(
        ram_bytes=_UNLIMITED_BYTES, reserved_bytes=reserved_bytes, alignment_bytes=alignment_bytes
    )
    return simulate(graph, costs, budget, keep_everything(graph))
