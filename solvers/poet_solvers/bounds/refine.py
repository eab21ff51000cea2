"""Lazy refinement: where a decoded schedule is over the budget, RAM is counted from now on.

A first run over the budget becomes a checkpoint. A second run over the budget gets a row of its own
(`inside.py`), and the first run before it becomes a checkpoint, so that the segment is short.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby

from poet_core.errors import PlanError
from poet_core.plan import Do, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.bounds.relaxation import Grid

_ENDLESS_BYTES = 1 << 62


def broken_moments(problem: Problem, schedule: Schedule, most: int) -> Grid:
    """The worst of each stretch over the budget, of at most `most` stretches; an empty grid where
    the schedule breaks some other rule, or none."""
    roomy = replace(problem.budget, ram_bytes=_ENDLESS_BYTES)
    try:
        judgement = simulate(problem.graph, problem.costs, roomy, schedule, problem.allowed)
    except PlanError:
        return Grid(checkpoints=())
    memory = judgement.memory_bytes
    over = problem.budget.ram_bytes
    worst: list[int] = []
    for is_over, stretch in groupby(range(len(memory)), key=lambda place: memory[place] > over):
        if is_over:
            worst.append(max(stretch, key=lambda place: memory[place]))
    worst = sorted(worst, key=lambda place: -memory[place])[:most]
    return _grid(problem, schedule, worst)


def _grid(problem: Problem, schedule: Schedule, places: list[int]) -> Grid:
    checkpoints: set[int] = set()
    inside: set[tuple[int, int]] = set()
    runs = [
        (place, one.target)
        for place, one in enumerate(schedule.instructions)
        if one.do is Do.COMPUTE
    ]
    last_op = len(problem.graph.ops) - 1
    for place in places:
        done: set[int] = set()
        for at, op in runs:
            if at >= place:
                break
            done.add(op)
        else:
            checkpoints.add(last_op)
            continue
        following = min(len(done), last_op)  # first runs come in document order
        if op in done:
            inside.add((following, op))
            checkpoints.update({max(0, following - 1), following})
        else:
            checkpoints.add(op)
    return Grid(checkpoints=tuple(sorted(checkpoints)), inside=frozenset(inside))
