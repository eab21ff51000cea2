"""Which storages are in RAM at one instruction of a plan that the judge has accepted.

Invariant: the rows of `residents` add up to the judge's figure for that instruction.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Something that takes RAM: a storage, or what an op needs beside its storages."""

    name: str
    role: str
    size_bytes: int
    touched: bool


def residents(
    graph: TrainingGraph, budget: Budget, schedule: Schedule, position: int
) -> list[Resident]:
    """What is in RAM during instruction `position` (-1: before the first), largest first."""
    instructions = schedule.instructions
    here = set(schedule.start_ram)
    here |= {item.id for item in graph.storages if not item.persistent} & {
        item.id for item in graph.storages if graph.begins_resident(item.id)
    }
    runs_planned = Counter(item.target for item in instructions if item.do is Do.COMPUTE)
    runs_done: Counter[int] = Counter()
    for instruction in instructions[: max(0, position)]:
        if instruction.do is Do.COMPUTE:
            here |= set(graph.ops[instruction.target].writes)
            runs_done[instruction.target] += 1
        elif instruction.do is Do.PAGE_IN:
            here.add(instruction.target)
        elif instruction.do is Do.FREE:
            here.discard(instruction.target)
    replayed = {
        op.id
        for op in graph.ops
        if op.random and runs_planned[op.id] > 1 and 0 < runs_done[op.id] < runs_planned[op.id]
    }
    rows: list[Resident] = []
    touched: set[int] = set()
    if position >= 0:
        now = instructions[position]
        if now.do is Do.COMPUTE:
            op = graph.ops[now.target]
            touched = set(op.touches)
            again = [
                Resident(
                    name=f"{graph.storages[item].name} (new copy)",
                    role=str(graph.storages[item].role),
                    size_bytes=budget.rounded(graph.storages[item].size_bytes),
                    touched=True,
                )
                for item in op.writes
                if item in here
            ]
            rows += again
            rows.append(_extra("workspace of the op", budget.rounded(op.workspace_bytes)))
            here |= set(op.writes)
            if op.random and runs_planned[op.id] > 1:
                replayed.add(op.id)
        elif now.do is Do.PAGE_IN:
            here.add(now.target)
            touched = {now.target}
        elif now.do is Do.FREE:
            here.discard(now.target)
    rows.append(_extra("reserved", budget.reserved_bytes))
    rows.append(_extra("generator states", len(replayed) * budget.rounded(graph.rng_state_bytes)))
    rows += [
        Resident(
            name=graph.storages[item].name,
            role=str(graph.storages[item].role),
            size_bytes=budget.rounded(graph.storages[item].size_bytes),
            touched=item in touched,
        )
        for item in here
    ]
    rows = [row for row in rows if row.size_bytes]
    return sorted(rows, key=lambda row: (-row.size_bytes, row.name))


def _extra(name: str, size_bytes: int) -> Resident:
    return Resident(name=name, role="", size_bytes=size_bytes, touched=True)
