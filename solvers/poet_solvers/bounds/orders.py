"""A problem with its ops listed in a plan's own order: the same step where versions agree.

A relaxation speaks of first runs in document order. Of a plan that reorders, the graph is listed
anew in the order of its first runs, so that the same relaxation speaks of that order.

Invariant: a schedule of `Ordered.problem`, mapped by `schedule_back`, is the same schedule of the
original problem, judged the same but for the right to reorder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from poet_core.errors import GraphError
from poet_core.graph import TrainingGraph
from poet_core.plan import Do, HoldsFor, Instruction, Problem, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """`order[place]`: the original op that stands at `place` in `problem`."""

    problem: Problem
    order: tuple[int, ...]

    @property
    def holds_for(self) -> HoldsFor:
        """What a bound that speaks of the listed order says of the original problem."""
        in_place = all(op == place for place, op in enumerate(self.order))
        return HoldsFor.GIVEN_ORDER if in_place else HoldsFor.PLAN_ORDER

    def schedule_back(self, schedule: Schedule) -> Schedule:
        """A schedule of the listed problem as one of the original."""
        return replace(
            schedule,
            instructions=tuple(
                Instruction(one.do, self.order[one.target]) if one.do is Do.COMPUTE else one
                for one in schedule.instructions
            ),
        )

    def schedule_here(self, schedule: Schedule) -> Schedule:
        """A schedule of the original problem as one of the listed one."""
        place_of = {op: place for place, op in enumerate(self.order)}
        return replace(
            schedule,
            instructions=tuple(
                Instruction(one.do, place_of[one.target]) if one.do is Do.COMPUTE else one
                for one in schedule.instructions
            ),
        )


def in_order(problem: Problem, order: tuple[int, ...]) -> Ordered | None:
    """`problem` with its ops listed in `order`; None where that would be another step.

    It is where some op would find or leave another version than document order says: a schedule may
    first run such ops in that order with the help of an old copy, but a document cannot say so.
    """
    graph = problem.graph
    if order == tuple(range(len(graph.ops))):
        return Ordered(problem=problem, order=order)
    ops = tuple(replace(graph.ops[op], id=place) for place, op in enumerate(order))
    try:
        listed = replace(graph, ops=ops)
    except GraphError:
        return None
    if not _same_step(graph, listed, order):
        return None
    costs = problem.costs
    costs = replace(
        costs,
        op_seconds=tuple(costs.op_seconds[op] for op in order),
        op_joules=tuple(costs.op_joules[op] for op in order),
    )
    allowed = replace(problem.allowed, reorder=False)
    listed_problem = replace(problem, graph=listed, costs=costs, allowed=allowed)
    return Ordered(problem=listed_problem, order=order)


def _same_step(graph: TrainingGraph, listed: TrainingGraph, order: tuple[int, ...]) -> bool:
    before, now = graph.versions, listed.versions
    return before.last == now.last and all(
        _same(before.need[op], now.need[place]) and _same(before.gives[op], now.gives[place])
        for place, op in enumerate(order)
    )


def _same(one: Mapping[int, int], other: Mapping[int, int]) -> bool:
    return dict(one) == dict(other)
