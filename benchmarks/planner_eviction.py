"""Greedy eviction in the style of Capuchin (Peng et al., ASPLOS 2020), on a known access pattern.

At the first moment over the budget, of the tensors that are held across it: the one that frees most
bytes for its cost (of equals: for the longest time) is either paged out and in again or, where cheaper,
rematerialized before its next access with the chain of what it needs by then. Nothing is taken back.
Invariant: what is answered fits by this module's own count; the judge has the last word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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


def evictions(problem: Problem) -> Iterator[Schedule]:
    """A schedule for each variant that does not end over the budget."""
    model = step_model(problem)
    for most_returns in _MOST_RETURNS:
        sequence = _Evictions(model, most_returns).run()
        if sequence is not None:
            yield sequence_schedule(model, sequence)


class _Evictions:
    """`runs`: (number, op), first runs numbered by op; `paged`: (value, number of its run)."""

    def __init__(self, model: StepModel, most_returns: int) -> None:
        self._model, self._table, self._most_returns = model, model.table, most_returns
        self._runs = [(op.id, op.id) for op in model.problem.graph.ops]
        self._next_number = len(self._runs)
        self._paged: set[tuple[int, int]] = set()
        self._copied: set[int] = set()
        self._returns: Counter[int] = Counter()
        self._budget = model.problem.budget.ram_bytes

    def run(self) -> Sequence | None:
        """Evict until everything fits."""
        for _ in range(_ROUNDS_PER_OP * len(self._model.op_cost)):
            memory, holds = self._measure()
            over = next((i for i, used in enumerate(memory) if used > self._budget), None)
            if over is None:
                return Sequence(
                    runs=tuple(self._runs),
                    paged=frozenset(self._paged),
                    start_ram=self._model.persistent,
                )
            if not self._evict_one(over, holds):
                return None
        return None

    def _measure(self) -> tuple[list[int], list[_Hold]]:
        """Bytes in use at each run, and every hold."""
        table, values = self._table, self._table.values
        change = [0] * (len(self._runs) + 1)
        touched = list[int]()
        holds: list[_Hold] = []
        last = {value.id: -1 for value in values if value.starts_step}
        for place, (number, op) in enumerate(self._runs):
            for v in table.needed[op]:
                if (v, number) not in self._paged:
                    holds.append(_Hold(v, last[v], place))
                last[v] = place
            last.update(dict.fromkeys(table.given(op), place))
            touched.append(
                sum(values[v].ram_bytes for v in (*table.needed[op], *table.written[op]))
                + self._model.workspace_bytes[op]
            )
        for hold in holds:
            change[hold.since + 1] += values[hold.value].ram_bytes
            change[hold.until] -= values[hold.value].ram_bytes
        memory, held = [], self._model.problem.budget.reserved_bytes
        for place, bytes_touched in enumerate(touched):
            held += change[place]
            memory.append(held + bytes_touched)
        return memory, holds

    def _evict_one(self, over: int, holds: list[_Hold]) -> bool:
        """Evict what frees most for its cost; False where nothing may go."""
        best: tuple[tuple[float, int, int], _Hold, list[int] | None] | None = None
        by_value: dict[int, list[_Hold]] = {}
        for hold in holds:
            by_value.setdefault(hold.value, []).append(hold)
        for hold in holds:
            if not hold.since < over < hold.until or hold.since < 0:
                continue
            cost, chain = self._cost(hold, by_value)
            if cost is None:
                continue
            size = self._table.values[hold.value].ram_bytes
            worth = size / cost if cost > 0 else float("inf")
            rank = worth, size, hold.until - hold.since
            if best is None or rank > best[0]:
                best = rank, hold, chain
        if best is None:
            return False
        self._take(best[1], best[2])
        return True

    def _cost(
        self, hold: _Hold, holds: dict[int, list[_Hold]]
    ) -> tuple[float | None, list[int] | None]:
        """The cheaper way back: (cost, None) to page, (cost, ops) to run again; None for neither."""
        model, v = self._model, hold.value
        page: float | None = None
        if model.problem.allowed.page:
            page = model.page_in_cost[v] + (0 if v in self._copied else model.page_out_cost[v])
        chain = self._chain(hold, holds) if self._returns[v] < self._most_returns else None
        if chain is None:
            return page, None
        cost = sum(model.op_cost[op] for op in chain)
        return (page, None) if page is not None and page <= cost else (cost, chain)

    def _chain(self, hold: _Hold, holds: dict[int, list[_Hold]]) -> list[int] | None:
        """The ops that bring the value back right before `until`, from what is held there."""

        def here(value: int) -> bool:
            return value != hold.value and any(
                one.since < hold.until <= one.until for one in holds.get(value, ())
            )

        ops, stack = set[int](), [hold.value]
        while stack:
            value = self._table.values[stack.pop()]
            op = value.producer
            if op in ops:
                continue
            if op < 0 or not self._model.may_rerun[op] or len(ops) == _LONGEST_CHAIN:
                return None
            ops.add(op)
            stack += [v for v in self._table.needed[op] if not here(v)]
        return sorted(ops)

    def _take(self, hold: _Hold, chain: list[int] | None) -> None:
        if chain is None:
            self._paged.add((hold.value, self._runs[hold.until][0]))
            self._copied.add(hold.value)
            return
        self._returns[hold.value] += 1
        numbers = range(self._next_number, self._next_number + len(chain))
        self._runs[hold.until : hold.until] = list(zip(numbers, chain, strict=True))
        self._next_number += len(chain)
