"""Chains: the runs that bring a value back right before a position, and the RAM that they need.

The value's producer runs again; what it needs and neither RAM holds there nor has room to hold that
long is brought back in turn, by a page_in or by a run of its own, whichever costs less. The ways
back branch, so that a look gives up after a number of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from poet_solvers.greedy_timeline import Run, Timeline

# Runs that bring back one value at most (design notes, solvers.md: chain insert), and values that one
# look goes through at most, of which the graphs of real steps need far fewer. Then: where that is not
# enough to bring a peak under the budget.
_EFFORTS = ((16, 100), (64, 1000))


@dataclass(frozen=True, slots=True)
class Chain:
    """Runs in order, their cost, their highest memory and their bytes over the budget, summed."""

    cost: float
    runs: list[Run]
    highest: int
    excess: int


class Chains:
    """Looks for chains on a timeline. `page_cost` by value; infinite where paging is not allowed."""

    def __init__(self, timeline: Timeline, page_cost: list[float]) -> None:
        self.over_at = -1  # a position over the budget, so that there is no room to hold more
        self.too_dear = False
        self._most_runs, self._most_looks = _EFFORTS[0]
        self._line, self._page_cost = timeline, page_cost
        self._model, self._table = timeline.model, timeline.table
        self._budget = self._model.problem.budget.ram_bytes
        self._runs: list[Run] = []
        self._made: set[int] = set()
        self._before = self._looks_left = 0

    def try_harder(self) -> bool:
        """Look for longer chains from now on; False where it does already."""
        before = self._most_runs
        self._most_runs, self._most_looks = _EFFORTS[-1]
        return before != self._most_runs

    def look(self, v: int, before: int, most_cost: float) -> Chain | None:
        """The chain for v right before a position, if there is one that costs less than that.

        `too_dear` says afterwards whether a higher limit might have shown another.
        """
        self.too_dear = False
        self._before, self._looks_left = before, self._most_looks
        self._runs, self._made = [], set()
        cost = self._bring(v, frozenset((v,)), most_cost)
        if cost is None:
            return None
        highest, excess = self._memory(v)
        return Chain(cost, self._runs, highest, excess)

    def _bring(self, v: int, path: frozenset[int], most_cost: float) -> float | None:
        op = self._line.values[v].producer
        self._looks_left -= 1
        if self._looks_left < 0 or not self._may_run(op):
            return None
        cost = self._model.op_cost[op]
        paged: list[int] = []
        for w in self._table.needed[op]:
            if w in self._made or self._available(w):
                continue
            if w in path:
                return None
            if cost >= most_cost:
                self.too_dear = True
                return None
            page, kept = self._page_cost[w], (len(self._runs), self._made)
            self._made = set(self._made)
            longer = None
            if len(path) <= self._most_runs:
                longer = self._bring(w, path | {w}, min(page, most_cost - cost))
            if longer is None:
                if page == inf:
                    return None
                del self._runs[kept[0] :]
                self._made = kept[1]
                self._made.add(w)
                paged.append(w)
            cost += page if longer is None else longer
            if len(self._runs) >= self._most_runs:
                return None
        if cost >= most_cost:
            self.too_dear = True
            return None
        self._runs.append((op, tuple(paged)))
        self._made.update(self._table.written[op])
        return cost

    def _may_run(self, op: int) -> bool:
        """Whether the op may run again there: it has run, and finds its versions still."""
        if op < 0 or not self._model.may_rerun[op]:
            return False
        place, before = self._line.place, self._before
        return bool(place[op] < before) and not any(
            place[later] < before for later in self._model.superseders[op]
        )

    def _available(self, w: int) -> bool:
        """Held across the position, or room to hold it that long."""
        line, before = self._line, self._before
        if line.is_held(w, before):
            return True
        since = line.last_before(w, before)
        if since < 0 or since < self.over_at < before:
            return False
        between = line.memory[since + 1 : before]
        return not len(between) or int(between.max()) + line.size[w] <= self._budget

    def _memory(self, v: int) -> tuple[int, int]:
        """The highest memory of the runs, and bytes over the budget summed over them."""
        line, before, size = self._line, self._before, self._line.size
        held = int(line.across[before]) - size[v]
        wanted: dict[int, int] = {v: len(self._runs)}
        for place, (op, _) in enumerate(self._runs):
            wanted.update(dict.fromkeys(self._table.needed[op], place))
        wanted[v] = len(self._runs)
        live: set[int] = set()
        highest = excess = live_bytes = 0
        for place, (op, _) in enumerate(self._runs):
            coming = [
                w for w in self._table.needed[op] if w not in live and not line.is_held(w, before)
            ]
            coming += [w for w in self._table.written[op] if w not in live]
            live.update(coming)
            live_bytes += sum(size[w] for w in coming)
            memory = held + live_bytes + self._model.workspace_bytes[op]
            highest, excess = max(highest, memory), excess + max(0, memory - self._budget)
            gone = [w for w in live if wanted.get(w, -1) <= place]
            live.difference_update(gone)
            live_bytes -= sum(size[w] for w in gone)
        return highest, excess
