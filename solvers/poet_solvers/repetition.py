"""Repetition: which ops and values of a graph are the same thing in another place.

Structural hashing: two ops are alike if kind, phase, costs, sizes and flags are, two values if size,
prices and ends are; then, some times over, if what they need and give and who makes and uses them is
alike too. So the blocks of a deep network need not be found: what stands at the same place of two
blocks is alike, wherever the blocks are, how often they repeat and whatever lies between.

Recognised: anything that is equal up to `_ROUNDS` steps away. Not recognised: blocks of other sizes or
dtypes, and the first and last of a row, whose neighbours differ. Two ops alike may also stand in one
block (query and key), and nothing says that swapping their roles in the whole graph keeps it: who
uses this takes it as a hint where to look, and looks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from poet_solvers.occurrences import StepModel

# Steps away to which the surroundings are compared: enough to tell most ops of a block apart.
_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Repetition:
    """A class number for each op and each value: equal numbers, alike."""

    op_class: tuple[int, ...]
    value_class: tuple[int, ...]


def repetition(model: StepModel) -> Repetition:
    """The classes of a step."""
    table, graph = model.table, model.problem.graph
    ops = _numbered(
        (
            op.kind,
            op.phase,
            model.op_cost[op.id],
            model.workspace_bytes[op.id],
            model.may_rerun[op.id],
        )
        for op in graph.ops
    )
    values = _numbered(
        (value.ram_bytes, value.persistent, value.at_end, value.starts_step,
         model.page_in_cost[value.id], model.page_out_cost[value.id])
        for value in table.values
    )  # fmt: skip
    for _ in range(_ROUNDS):
        ops = _numbered(
            (ops[op], *(tuple(values[v] for v in part[op])
                        for part in (table.needed, table.written, table.mutated)))
            for op in range(len(ops))
        )  # fmt: skip
        values = _numbered(
            (values[value.id], ops[value.producer] if value.producer >= 0 else -1,
             tuple(sorted(ops[user] for user in value.users)))
            for value in table.values
        )  # fmt: skip
    return Repetition(tuple(ops), tuple(values))


def _numbered(keys: Iterable[Hashable]) -> list[int]:
    """Equal keys get equal numbers, counted from 0 in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]
