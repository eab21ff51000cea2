"""Checkpoints: the first runs at which the relaxation counts RAM.

Any choice is valid, since leaving a position out only leaves a row out. Worth having are positions
at which everything that somebody still wants does not fit; of many, the worst of each stretch.
"""

from __future__ import annotations

from itertools import pairwise

from poet_core.plan import Problem
from poet_solvers.values import ValueTable


def over_budget_bytes(problem: Problem, table: ValueTable) -> list[int]:
    """By op: how far over the budget RAM is when the op first runs, everything wanted being kept.

    Wanted: between a value's production and its last first use, or to the end of the step.
    """
    graph, budget = problem.graph, problem.budget
    op_count = len(graph.ops)
    steps = [0] * (op_count + 1)
    for value in table.values:
        last = op_count - 1 if value.at_end else max(value.users, default=value.producer)
        if last > value.producer:
            steps[value.producer + 1] += value.ram_bytes
            steps[last + 1] -= value.ram_bytes
    excess: list[int] = []
    wanted = 0
    for op in graph.ops:
        wanted += steps[op.id]
        # What the op needs is wanted; what it writes is in RAM as well, mutated bytes are the same.
        written = sum(table.values[v].ram_bytes for v in table.written[op.id])
        in_use = wanted + written + budget.rounded(op.workspace_bytes) + budget.reserved_bytes
        excess.append(in_use - budget.ram_bytes)
    return excess


def choose_checkpoints(excess: list[int], most: int) -> tuple[int, ...]:
    """The positions over budget, ascending; of more than `most`, the worst of each stretch."""
    over = [position for position, value in enumerate(excess) if value > 0]
    if len(over) <= most:
        return tuple(over)
    bounds = [len(over) * part // most for part in range(most + 1)]
    return tuple(
        max(over[begin:end], key=lambda position: (excess[position], -position))
        for begin, end in pairwise(bounds)
    )
