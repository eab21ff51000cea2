"""What one would do without this planner, at any point of POET's experiments.

    sqrt(n) checkpointing    Chen et al. 2016: k segments of equal ops, bytes or cost; the last is kept
    Griewank checkpointing   revolve: nested segments, s snapshots (`poet_experiments_griewank`)
    torch checkpoint         torch.utils.checkpoint on runs of blocks (`poet_experiments_blocks`)
    torch partitioner        PyTorch's activation memory budget: knapsack and minimum cut
    page everything          hooks to disk, optimizer state in flash too (`poet_experiments_paging`)
    Capuchin                 greedy: page or run again what frees most for its cost; persistent storages
                             go to flash where it finds nothing with them in RAM

Each is given at its best: every number of segments, of snapshots, of blocks a run, every share of the
activations, or nothing recomputed at all; the cheapest that fits is answered. All but page everything
and Capuchin keep parameters, buffers and optimizer state in RAM, as they do where they come from, and
all keep the given order. Invariant: a schedule that leaves here was accepted by the judge for the
problem asked; a method that cannot express a problem raises PlanningError `not_applicable` and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from benchmarks.alternatives import checkpointed, cuts_of
from benchmarks.planner_eviction import evictions
from benchmarks.planner_partitioner import partitions
from benchmarks.planner_passes import Passes, read_passes, turn
from benchmarks.poet_experiments_blocks import checkpointed_blocks
from benchmarks.poet_experiments_griewank import revolved, stage_counts
from benchmarks.poet_experiments_paging import paged_sequences
from benchmarks.poet_experiments_points import PointContext
from benchmarks.poet_experiments_variants import Variant, Ways, variants
from poet_core.errors import PlanningError
from poet_core.graph import Phase, TrainingGraph
from poet_core.plan import Problem, Schedule
from poet_solvers.evict import judged_cost
from poet_solvers.occurrences import Sequence, sequence_schedule, step_model

SQRT, GRIEWANK, BLOCKS = "sqrt(n) checkpointing", "Griewank checkpointing", "torch checkpoint"
PARTITIONER, PAGE_EVERYTHING, CAPUCHIN = "torch partitioner", "page everything", "Capuchin"

_AMPLE_BYTES = 2**62

Run = Callable[[Problem, float, PointContext], Schedule | None]


def recomputing(name: str) -> Run:
    """The method of that name, one of those that recompute and do not page."""

    def run(problem: Problem, _seconds: float, context: PointContext) -> Schedule | None:
        if name == BLOCKS and not any(op.module for op in problem.graph.ops):
            raise _not_applicable("The graph names no modules, so nobody knows its blocks.")
        return _cheapest(name, problem, context)

    return run


def page_everything(problem: Problem, _seconds: float, context: PointContext) -> Schedule | None:
    """Everything to flash, in the cheapest way that fits."""
    if not problem.allowed.page:
        raise _not_applicable("The problem allows no paging.")
    if PAGE_EVERYTHING not in context.shared:
        context.shared[PAGE_EVERYTHING] = _paged(problem)
    ways: list[Schedule] = context.shared[PAGE_EVERYTHING]
    return next((way for way in ways if judged_cost(problem, way) is not None), None)


def _paged(problem: Problem) -> list[Schedule]:
    """Every way to page, the cheapest first: what one costs does not depend on the budget."""
    model = step_model(problem)
    schedules = [
        sequence_schedule(model, sequence)
        for sequence in paged_sequences(model, _passes(problem.graph))
    ]
    ample = replace(problem, budget=replace(problem.budget, ram_bytes=_AMPLE_BYTES))
    costs = [judged_cost(ample, schedule) for schedule in schedules]
    accepted = [(cost, place) for place, cost in enumerate(costs) if cost is not None]
    return [schedules[place] for _cost, place in sorted(accepted)]


def capuchin(problem: Problem, _seconds: float, _context: PointContext) -> Schedule | None:
    """Greedy eviction with persistent storages in RAM; only where none of its ways fits, with them in
    flash."""
    found = _best(problem, evictions(problem))
    paging = problem.allowed.page and any(
        s.persistent and s.size_bytes for s in problem.graph.storages
    )
    if found is None and paging:
        return _best(problem, evictions(problem, persistent=False))
    return found


def _best(problem: Problem, schedules: Iterable[Schedule]) -> Schedule | None:
    judged = ((judged_cost(problem, schedule), schedule) for schedule in schedules)
    accepted = [(cost, schedule) for cost, schedule in judged if cost is not None]
    return min(accepted, key=lambda one: one[0])[1] if accepted else None


def _cheapest(name: str, problem: Problem, context: PointContext) -> Schedule | None:
    """Of all variants that recompute, the cheapest that fits and that the judge accepts."""
    passes = _passes(problem.graph)
    if passes is None:
        raise _not_applicable("The step is no forward pass followed by a backward pass.")
    if not problem.allowed.rematerialize:
        raise _not_applicable("The problem allows no rematerialization.")
    if name not in context.shared:
        context.shared[name] = variants(problem, context.graph_sha256, passes, name, _WAYS[name])
    model = step_model(problem)
    op_cost = np.array(model.op_cost)
    known: list[Variant] = context.shared[name]
    fitting = [one for one in known if one.peak_bytes <= problem.budget.ram_bytes]
    for one in sorted(fitting, key=lambda one: one.cost(op_cost)):
        sequence = one.sequence(passes.start_ram, len(problem.graph.ops))
        schedule = sequence_schedule(model, sequence)
        if judged_cost(problem, schedule) is not None:
            return schedule
    return None


def _revolved(passes: Passes) -> Iterator[Sequence]:
    ways = (cuts for count in stage_counts(passes) for cuts in cuts_of(passes, count))
    return revolved(passes, ways)


_WAYS: dict[str, Ways] = {
    SQRT: checkpointed,
    GRIEWANK: _revolved,
    BLOCKS: checkpointed_blocks,
    PARTITIONER: partitions,
}


def _passes(graph: TrainingGraph) -> Passes | None:
    """POET's lists of layers have one phase only; where they turn is found by what is awaited."""
    phases = {op.phase for op in graph.ops}
    return read_passes(graph, turn(graph) if phases == {Phase.FORWARD} else None)


def _not_applicable(reason: str) -> PlanningError:
    return PlanningError(reason, code="not_applicable")
