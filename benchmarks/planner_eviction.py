"""Greedy eviction in the style of Capuchin (Peng et al., ASPLOS 2020), on a known access pattern.

At the first moment over the budget, of the tensors that are held across it: the one that frees most
bytes for its cost (of equals: for the longest time) is either paged out and in again or, where cheaper,
rematerialized before its next access with the chain of what it needs by then. Nothing is taken back.
Persistent storages stay in RAM, as there; `persistent=False` lets them begin in flash and treats them
like any other tensor after their first access. Invariant: what is answered fits by this module's own
count; the judge has the last word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from poet_core.plan import Problem, Schedule
from poet_solvers.occurrences import Sequence, StepModel, sequence_schedule, step_model

_ROUNDS_PER_OP = 6
# A tensor that takes more runs than these to come back is left alone.
_LONGEST_CHAIN = 32
# Nor is one that has come back so often by running again: evictions can undo each other. No number is
# best everywhere, so each is a variant.
_MOST_RETURNS = (1, 3, 12)


@dataclass(frozen=True, slots=True)
class _Hold:
    """A value held between two accesses, at run positions `since` < `until`."""

    value: int
    since: int
    until: int


def evictions(problem: Problem, *, persistent: bool = True) -> Iterator[Schedule]:
    """A schedule for each variant that does not end over the budget."""
    model = step_model(problem)
    for most_returns in _MOST_RETURNS:
        way = _Evictions(model, most_returns, model.persistent if persistent else frozenset())
        sequence = way.run()
        if sequence is not None:
            yield sequence_schedule(model, sequence)
        if not way.limited:
            return  # more returns would change nothing


class _Evictions:
    """`runs`: (number, op), first runs numbered by op; `paged`: (value, number of its run); `memory`:
    bytes in use at each run; `holds` by value. Values of storages that stay are in no hold.
    `limited`: whether a value was not run again because it had been so often."""

    def __init__(self, model: StepModel, most_returns: int, start_ram: frozenset[int]) -> None:
        self._model, self._table, self._most_returns = model, model.table, most_returns
        self._start_ram, self.limited = start_ram, False
        self._sizes = [value.ram_bytes for value in model.table.values]
        self._stays = [value.storage in start_ram for value in model.table.values]
        self._end_values = set(model.results)
        self._runs = [(op.id, op.id) for op in model.problem.graph.ops]
        self._next_number = len(self._runs)
        self._paged: set[tuple[int, int]] = set()
        self._copied: set[int] = {
            value.id for value in model.table.values if value.persistent and value.starts_step
        }
        self._returns: Counter[int] = Counter()
        self._budget = model.problem.budget.ram_bytes
        self._memory = np.zeros(0, np.int64)
        self._holds: dict[int, list[_Hold]] = {}

    def run(self) -> Sequence | None:
        """Evict until everything fits."""
        self._measure()
        for _ in range(_ROUNDS_PER_OP * len(self._model.op_cost)):
            over = np.flatnonzero(self._memory > self._budget)
            if not len(over):
                return Sequence(
                    runs=tuple(self._runs),
                    paged=frozenset(self._paged),
                    start_ram=self._start_ram,
                )
            if not self._evict_one(int(over[0])):
                return None
        return None

    def _measure(self) -> None:
        """Bytes in use at each run, and every hold."""
        table, sizes, stays = self._table, self._sizes, self._stays
        change = [0] * (len(self._runs) + 2)
        touched = list[int]()
        self._holds = {}
        last = {v.id: -1 for v in table.values if v.starts_step and not v.persistent}
        for place, (number, op) in enumerate(self._runs):
            for v in table.needed[op]:
                if not stays[v]:
                    if v in last and (v, number) not in self._paged:
                        self._holds.setdefault(v, []).append(_Hold(v, last[v], place))
                    last[v] = place
            last.update((v, place) for v in table.given(op) if not stays[v])
            touched.append(
                sum(sizes[v] for v in table.needed[op] if not stays[v])
                + sum(sizes[v] for v in table.written[op])
                + self._model.workspace_bytes[op]
            )
        end = len(self._runs)
        for v in self._end_values - {v for v, stay in enumerate(stays) if stay}:
            change[last[v] + 1] += sizes[v]
        for holds in self._holds.values():
            for hold in holds:
                change[hold.since + 1] += sizes[hold.value]
                change[hold.until] -= sizes[hold.value]
        resident = sum(
            self._model.problem.budget.rounded(self._bytes_of(s)) for s in self._start_ram
        )
        resident += self._model.problem.budget.reserved_bytes
        held = np.cumsum(np.array(change[:end], np.int64))
        self._memory = held + np.array(touched, np.int64) + resident

    def _bytes_of(self, storage: int) -> int:
        return self._model.problem.graph.storages[storage].size_bytes

    def _evict_one(self, over: int) -> bool:
        """Evict what frees most for its cost; False where nothing may go."""
        best: tuple[tuple[float, int, int], _Hold, list[int] | None] | None = None
        for holds in self._holds.values():
            for hold in holds:
                if not hold.since < over < hold.until or hold.since < 0:
                    continue
                cost, chain = self._cost(hold)
                if cost is None:
                    continue
                size = self._sizes[hold.value]
                worth = size / cost if cost > 0 else float("inf")
                rank = worth, size, hold.until - hold.since
                if best is None or rank > best[0]:
                    best = rank, hold, chain
        if best is None:
            return False
        self._take(best[1], best[2])
        return True

    def _cost(self, hold: _Hold) -> tuple[float | None, list[int] | None]:
        """The cheaper way back: (cost, None) to page, (cost, ops) to run again; None for neither."""
        model, v = self._model, hold.value
        page: float | None = None
        if model.problem.allowed.page:
            page = model.page_in_cost[v] + (0 if v in self._copied else model.page_out_cost[v])
        chain = None
        if self._returns[v] < self._most_returns:
            chain = self._chain(hold, page)
        else:
            self.limited = True
        if chain is None:
            return page, None
        cost = sum(model.op_cost[op] for op in chain)
        return (page, None) if page is not None and page <= cost else (cost, chain)

    def _chain(self, hold: _Hold, page: float | None) -> list[int] | None:
        """The ops that bring the value back right before `until`, from what is held there; None where
        they cost no less than `page`."""

        def here(value: int) -> bool:
            return self._stays[value] or (
                value != hold.value
                and any(one.since < hold.until <= one.until for one in self._holds.get(value, ()))
            )

        ops, stack, cost = set[int](), [hold.value], 0.0
        while stack:
            value = self._table.values[stack.pop()]
            op = value.producer
            if op in ops:
                continue
            if op < 0 or not self._model.may_rerun[op] or len(ops) == _LONGEST_CHAIN:
                return None
            ops.add(op)
            cost += self._model.op_cost[op]
            if page is not None and cost >= page:
                return None
            stack += [v for v in self._table.needed[op] if not here(v)]
        return sorted(ops)

    def _take(self, hold: _Hold, chain: list[int] | None) -> None:
        if chain is None:
            self._paged.add((hold.value, self._runs[hold.until][0]))
            self._copied.add(hold.value)
            self._holds[hold.value].remove(hold)
            self._memory[hold.since + 1 : hold.until] -= self._sizes[hold.value]
            return
        self._returns[hold.value] += 1
        numbers = range(self._next_number, self._next_number + len(chain))
        self._runs[hold.until : hold.until] = list(zip(numbers, chain, strict=True))
        self._next_number += len(chain)
        self._measure()
