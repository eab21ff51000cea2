"""RAM while an op runs again between two checkpoints: a row that refinement adds where it is needed.

    bytes of what op o touches * again[g, o]  +  bytes of what stays in RAM all through segment g
        <= room

What stays is known without the order inside the segment: a value that is in RAM at the checkpoints
on both sides and neither paged in nor made in between; at the end of the segment the touch of the
checkpoint's own first run takes the place of a held value. If o does not run, what stays still fits,
for all of it is in RAM at one moment.
"""

from __future__ import annotations

from bisect import bisect_right

from poet_core.plan import Problem
from poet_solvers.bounds.first_run import FirstRun
from poet_solvers.bounds.rows import ONE, ZERO, Sum
from poet_solvers.bounds.segments import Segments
from poet_solvers.values import Value, ValueTable


def count_second_run(
    problem: Problem,
    table: ValueTable,
    segments: Segments,
    first_run: FirstRun,
    segment: int,
    op_id: int,
) -> None:
    """Add the row of op `op_id` running again in `segment`, if the relaxation has such a run."""
    again = first_run.again.get((segment, op_id))
    if again is None or segment in (0, segments.last):
        return
    op, budget, graph = problem.graph.ops[op_id], problem.budget, problem.graph
    need = sum(budget.rounded(graph.storages[s].size_bytes) for s in op.touches)
    terms = [(need + budget.rounded(op.workspace_bytes), again)]
    ending = segments.checkpoints[segment]
    for value in table.values:
        if value.storage not in op.touches:
            stays = _stays(first_run, segments, value, segment, ending)
            terms.append((value.ram_bytes, stays))
    first_run.rows.weighted(terms, budget.ram_bytes - budget.reserved_bytes)


def _stays(first_run: FirstRun, segments: Segments, value: Value, segment: int, ending: int) -> Sum:
    """1 only where the value is in RAM on both sides of the segment and did not come in between."""
    events = segments.events[value.id]
    before, after = _gap(events, segment - 1), _gap(events, segment)
    left = ZERO if before is None else first_run.hold[value.id, before]
    if before is None or left == ZERO:
        return ZERO
    comes = first_run.page_in.get((value.id, before + 1), ZERO)
    if after == before:
        right = ONE
    else:
        comes += first_run.again.get((segment, value.producer), ZERO)
        right = ZERO if after is None else first_run.hold[value.id, after]
        right = ONE if ending in value.users else right
    if right == ZERO or (right == ONE and comes == ZERO):
        return left if right == ONE else ZERO
    stays = first_run.rows.column(whole=False)
    # It is at least left + right - 1 - comes.
    first_run.rows.weighted([(1, left), (1, right), (-1, comes), (-1, stays)], 1)
    return stays


def _gap(events: tuple[int, ...], checkpoint: int) -> int | None:
    """The gap of a value that a checkpoint lies in; None before its first event or after its last."""
    if checkpoint < events[0] or checkpoint >= events[-1]:
        return None
    return bisect_right(events, checkpoint) - 1
