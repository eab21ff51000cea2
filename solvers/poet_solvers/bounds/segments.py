"""What may happen between two checkpoints: which ops may run again, and when a value is wanted.

Segment g is the stretch of the program after the first run at checkpoint g - 1, up to and with the
first run at checkpoint g; the last one ends with the step. Left out is only what cannot lower the
relaxation's optimum:

    a second run of which nobody wants an output any more
    a second run that costs no less than paging its wanted outputs out and in again, where no
    limit on flash, time or energy could forbid just that

With `chains` a second run needs its inputs in its own segment. Without (the cover) it needs nothing,
and then it may as well happen in the segment of the next first run that wants one of its outputs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from poet_core.plan import Objective, Problem
from poet_solvers.bounds.prices import Prices
from poet_solvers.values import BEFORE_STEP, Value, ValueTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """`reruns[op]`: the segments in which an op may run again, ascending. `wanted[v]`: those in
    which a first run needs value v that was produced in an earlier one. `events[v]`: the segment of
    the production (-1 before the step), then every later one in which something may happen to v."""

    checkpoints: tuple[int, ...]
    chains: bool
    of_op: tuple[int, ...]
    reruns: tuple[tuple[int, ...], ...]
    wanted: tuple[frozenset[int], ...]
    events: tuple[tuple[int, ...], ...]

    @property
    def last(self) -> int:
        """The segment that ends with the step."""
        return len(self.checkpoints)

    @property
    def columns(self) -> int:
        """Nearly how many columns the relaxation will have."""
        return sum(map(len, self.reruns)) + 2 * sum(map(len, self.events))


def lay_out(
    problem: Problem,
    table: ValueTable,
    prices: Prices,
    checkpoints: tuple[int, ...],
    *,
    chains: bool,
) -> Segments:
    """The segments of a problem between the given checkpoints."""
    of_op = tuple(bisect_left(checkpoints, op.id) for op in problem.graph.ops)
    end = len(checkpoints)
    produced = [-1 if v.producer == BEFORE_STEP else of_op[v.producer] for v in table.values]
    wanted = tuple(
        frozenset(of_op[user] for user in value.users if of_op[user] > produced[value.id])
        for value in table.values
    )
    closes = [value.at_end and produced[value.id] < end for value in table.values]
    demands = [
        sorted(wanted[v] | {end}) if closes[v] else sorted(wanted[v]) for v in range(len(wanted))
    ]
    until = [segments[-1] if segments else -1 for segments in demands]
    reruns: list[tuple[int, ...]] = [()] * len(of_op)
    for op in reversed(problem.graph.ops):
        useful = [v for v in table.given(op.id) if until[v] > of_op[op.id]]
        if not useful or not _may_pay(problem, table, prices, op.id, useful):
            continue
        if not chains:
            reruns[op.id] = tuple(sorted({segment for v in useful for segment in demands[v]}))
            continue
        latest = max(until[v] for v in useful)
        reruns[op.id] = tuple(range(of_op[op.id] + 1, latest + 1))
        for v in table.needed[op.id]:
            until[v] = max(until[v], latest)

    def events(value: Value) -> tuple[int, ...]:
        inside = set(demands[value.id])
        again: Iterable[int] = () if value.producer == BEFORE_STEP else reruns[value.producer]
        inside.update(segment for segment in again if segment <= until[value.id])
        if chains:
            for user in value.users:
                inside.update(reruns[user])
        return (produced[value.id], *sorted(inside))

    return Segments(
        checkpoints=checkpoints,
        chains=chains,
        of_op=of_op,
        reruns=tuple(reruns),
        wanted=wanted,
        events=tuple(events(value) for value in table.values),
    )


def _may_pay(
    problem: Problem, table: ValueTable, prices: Prices, op_id: int, useful: list[int]
) -> bool:
    if not problem.allowed.rematerialize or not problem.graph.ops[op_id].recomputable:
        return False
    if not problem.allowed.page or _transfers_are_scarce(problem):
        return True
    storages = [table.values[v].storage for v in useful]
    if problem.budget.step_seconds is not None or problem.budget.energy_joules is not None:
        costs = problem.costs
        joules = sum(costs.page_in_joules[s] + costs.page_out_joules[s] for s in storages)
        seconds = sum(costs.page_in_seconds[s] + costs.page_out_seconds[s] for s in storages)
        if joules > costs.op_joules[op_id] or seconds > costs.op_seconds[op_id]:
            return True
    return prices.run[op_id] < sum(prices.page_in[s] + prices.page_out[s] for s in storages)


def _transfers_are_scarce(problem: Problem) -> bool:
    """Whether a limit may forbid a transfer that costs no more than the run that it replaces."""
    budget = problem.budget
    if budget.flash_bytes is not None or budget.flash_write_bytes is not None:
        return True
    lane = problem.objective is Objective.TIME or problem.costs.idle_watts > 0
    return budget.overlap and (lane or budget.step_seconds is not None)
