"""Take back what greedy did and turned out not to need, dearest first; it fits all along."""

from __future__ import annotations

from collections.abc import Callable

from poet_solvers.greedy_choice import Chooser
from poet_solvers.greedy_timeline import Timeline


def prune(line: Timeline, chooser: Chooser, stop: Callable[[], bool]) -> None:
    """Take out second runs, hold what is paged in or begins in flash, where there is room for it."""
    _Pruner(line, chooser, stop).prune()


class _Pruner:
    def __init__(self, line: Timeline, chooser: Chooser, stop: Callable[[], bool]) -> None:
        self._line, self._chooser, self._stop = line, chooser, stop
        self._budget = line.model.problem.budget.ram_bytes

    def prune(self) -> None:
        """Runs first: without them some page_ins go as well."""
        line, cost = self._line, self._line.model.op_cost
        for node in sorted(line.second_runs(), key=lambda one: -cost[line.op[one]]):
            if not self._stop() and self._may_go(node):
                self._take_out(node)
        for v, node in sorted(line.paged, key=lambda one: (-self._chooser.page_cost[one[0]], one)):
            if not self._stop():
                self._hold(v, node)
        model = line.model
        for storage in sorted(model.persistent - line.start_ram, key=self._stay_cost):
            if not self._stop():
                self._come_back(storage)

    def _room(self, v: int, since: int, until: int) -> bool:
        """Whether v could be held between two positions."""
        between = self._line.memory[since + 1 : until]
        return not len(between) or int(between.max()) + self._line.size[v] <= self._budget

    def _hold(self, v: int, node: int) -> None:
        line = self._line
        until = int(line.place[node])
        since = line.last_before(v, until)
        # Without a touch before it begins in flash: its first use pages it in anyway.
        if since >= 0 and self._room(v, since, until):
            line.hold(v, node)

    def _stay_cost(self, storage: int) -> tuple[float, int]:
        """What beginning and ending in flash costs, the dearest first."""
        table, model = self._line.table, self._line.model
        first, last = table.first_of[storage], table.last_of[storage]
        cost = model.page_in_cost[first] + (model.page_out_cost[last] if first != last else 0.0)
        return -cost, storage

    def _come_back(self, storage: int) -> None:
        line, table = self._line, self._line.table
        first, last = table.first_of[storage], table.last_of[storage]
        touched, later = line.touched[first], line.touched[last]
        until = int(line.place[touched[0]]) if touched else line.length
        since = int(line.place[later[-1]]) if later else 0
        most = self._budget - line.size[first]
        if line.memory[0] > most or line.memory[:until].max() > most:
            return
        if since + 1 < line.length and line.memory[since + 1 :].max() > most:
            return
        line.come_back(storage)
        if int(line.memory.max()) > self._budget:
            line.leave(storage)

    def _may_go(self, node: int) -> bool:
        """Whether each value that the run gives could be held over it instead (a quick look)."""
        line = self._line
        at = int(line.place[node])
        return all(
            self._room(v, line.last_before(v, at), at)
            for v in line.table.written[line.op[node]]
            if line.is_held(v, at + 1)
        )

    def _take_out(self, node: int) -> None:
        line = self._line
        after, run = line.take_out(node)
        if int(line.memory.max()) > self._budget:
            line.put_in(after, [run])
