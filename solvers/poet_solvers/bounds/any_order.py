"""The any-order cover: what every schedule must pay, whatever the order of its first runs.

At the first run of an op, in any order, its ancestors have run and its descendants have not. So of
an activation that an ancestor gives and a descendant needs: in RAM then, or brought back later by a
page_in (and the page_out before it) or by a second run of its producer, whose price its outputs
share. Of a persistent storage that some op needs and none overwrites: away from RAM at any moment of
the step, it is paged in once in the step, and paged out once where the step changes it, for flash
then begins or ends with another version. One column a storage or value: kept at every such moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

from poet_core.graph import TrainingGraph
from poet_core.plan import HoldsFor, Problem
from poet_solvers.bounds.prices import Prices, least_prices
from poet_solvers.bounds.rows import ONE, Rows, Sum
from poet_solvers.values import BEFORE_STEP, Value, ValueTable, value_table

# Entries that the rows may have together, and rows that there are whatever that comes to.
_MOST_TERMS, _LEAST_ROWS = 100_000, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOrderCover:
    """The rows, and what a bound from them says of itself."""

    prices: Prices
    rows: Rows
    name: str = "any-order cover"
    holds_for: HoldsFor = HoldsFor.ANY_ORDER


def any_order_cover(problem: Problem) -> AnyOrderCover:
    """The cover of a problem: one row an op, one column a storage or value.

    A row names all that may be held, so that on large graphs only some ops have one: any rows bound.
    """
    graph, budget = problem.graph, problem.budget
    table, prices = value_table(graph, budget), least_prices(problem)
    rows = Rows()
    movable = [v for v in table.values if not v.persistent and (v.users or v.at_end)]
    lost: list[tuple[Sum, Sum]] = []
    kept: dict[int, Sum] = {}

    def column(price: Fraction | None) -> Sum:
        """1 where it is always kept; None: nothing can bring it back."""
        if price is None:
            return ONE
        keep, lose = rows.column(), rows.column(price)
        lost.append((keep, lose))
        return keep

    needed_persistent = _needed_persistent(graph)
    chosen = _telling_ops(problem, movable, len(needed_persistent))
    live = _live_values(graph, movable, chosen)
    for value in {value.id: value for op_id in chosen for value in live[op_id]}.values():
        kept[value.id] = column(_price_of_value(problem, table, prices, value))
    persistent = {
        storage: column(_price_of_storage(problem, prices, storage))
        for storage in needed_persistent
    }
    for keep, lose in lost:
        rows.at_most(ONE, keep + lose)
    room = budget.ram_bytes - budget.reserved_bytes
    for op in (graph.ops[op_id] for op_id in chosen):
        touched = set(op.touches)
        fixed = sum(budget.rounded(graph.storages[s].size_bytes) for s in touched)
        terms = [
            (budget.rounded(graph.storages[s].size_bytes), keep)
            for s, keep in persistent.items()
            if s not in touched
        ]
        terms += [
            (value.ram_bytes, kept[value.id])
            for value in live[op.id]
            if value.storage not in touched
        ]
        rows.weighted(terms, room - fixed - budget.rounded(op.workspace_bytes))
    return AnyOrderCover(prices=prices, rows=rows)


def _telling_ops(problem: Problem, values: list[Value], persistent: int) -> list[int]:
    """The ops that have a row: all, or as many as may be named, the fullest in document order and
    others evenly among those that are over the budget there."""
    count = len(problem.graph.ops)
    change, alive = [0] * (count + 1), [0] * (count + 1)
    for value in values:
        begin = max(0, value.producer)
        end = count if value.at_end else value.users[-1] + 1
        change[begin] += value.ram_bytes
        change[end] -= value.ram_bytes
        alive[begin] += 1
        alive[end] -= 1
    terms = persistent + max(accumulate(alive))
    most = max(_LEAST_ROWS, _MOST_TERMS // max(1, terms))
    if count <= most:
        return list(range(count))
    fullest = sorted(enumerate(accumulate(change[:count])), key=lambda one: (-one[1], one[0]))
    return sorted(op_id for op_id, _ in fullest[:: -(-count // most)])


def _ancestors(graph: TrainingGraph) -> list[int]:
    """By op: a bit for every op whose first run is before its own in every order."""
    producer: dict[tuple[int, int], int] = {}
    before: list[int] = []
    for op in graph.ops:
        bits = 0
        for version in graph.versions.need[op.id].items():
            if version in producer:
                bits |= before[producer[version]] | 1 << producer[version]
        before.append(bits)
        for version in graph.versions.gives[op.id].items():
            producer[version] = op.id
    return before


def _live_values(graph: TrainingGraph, values: list[Value], chosen: list[int]) -> list[list[Value]]:
    """By chosen op: the values that were produced before its first run, and are needed after it."""
    before = _ancestors(graph)
    after = _transposed(before, chosen)
    live: list[list[Value]] = [[] for _ in before]
    everything = sum(1 << op_id for op_id in chosen)
    for value in values:
        later = everything if value.at_end else 0
        for user in value.users:
            later |= before[user]
        produced = everything if value.producer == BEFORE_STEP else after[value.producer]
        for op_id in _ones(produced & later & everything):
            live[op_id].append(value)
    return live


def _transposed(before: list[int], chosen: list[int]) -> list[int]:
    """By op: a bit for each chosen op that it is before in every order."""
    after = [0] * len(before)
    for op_id in chosen:
        for earlier in _ones(before[op_id]):
            after[earlier] |= 1 << op_id
    return after


def _ones(bits: int) -> list[int]:
    """The places of the ones, ascending."""
    return [place for place, digit in enumerate(reversed(f"{bits:b}")) if digit == "1"]


def _needed_persistent(graph: TrainingGraph) -> list[int]:
    needed = {s for op in graph.ops for s in op.reads + op.mutates}
    overwritten = {s for op in graph.ops for s in op.writes}
    return [
        s.id
        for s in graph.storages
        if s.persistent and s.size_bytes and s.id in needed and s.id not in overwritten
    ]


def _price_of_storage(problem: Problem, prices: Prices, storage: int) -> Fraction | None:
    if not problem.allowed.page:
        return None
    changed = problem.graph.versions.last[storage] > 0
    return prices.page_in[storage] + (prices.page_out[storage] if changed else 0)


def _price_of_value(
    problem: Problem, table: ValueTable, prices: Prices, value: Value
) -> Fraction | None:
    ways: list[Fraction] = []
    if problem.allowed.page:
        ways.append(prices.page_in[value.storage] + prices.page_out[value.storage])
    producer = value.producer
    if (
        producer != BEFORE_STEP
        and problem.allowed.rematerialize
        and problem.graph.ops[producer].recomputable
    ):
        ways.append(prices.run[producer] / len(table.given(producer)))
    return min(ways, default=None)
