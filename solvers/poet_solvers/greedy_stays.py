"""Persistent storages in RAM around the end of the step, and what it saves and costs to stop that.

Such a storage is held from its last touch over the end and the start to its first touch. Instead it
may end and begin the step in flash: a page_in before the first touch, and a page_out after the last
where the step changed it. All are priced at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from poet_solvers.greedy_timeline import Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What is away "until" or "since" a place that is no node's.
_NODE, _SECOND, _BEYOND = 0, 1, 2


class Stays:
    """`storages` that still begin in RAM, and by row: the nodes they are away until and since."""

    def __init__(self, line: Timeline) -> None:
        self._line, self._table, self._model = line, line.table, line.model
        self.storages = sorted(line.start_ram)
        self._row = {storage: row for row, storage in enumerate(self.storages)}
        count = len(self.storages)
        self._here = np.ones(count, np.bool_)
        self._until = np.zeros(count, np.int64)
        self._since = np.zeros(count, np.int64)
        self._odd_until = np.zeros(count, np.int64)
        self._odd_since = np.zeros(count, np.int64)
        self._cost: Floats = np.zeros(count, np.float64)
        first = [line.size[self._table.first_of[storage]] for storage in self.storages]
        self._size: Floats = np.array(first, np.float64)
        for storage in self.storages:
            self.look_again(storage)

    def leave(self, storage: int) -> None:
        """It begins and ends in flash now."""
        self._here[self._row[storage]] = False

    def look_again(self, storage: int) -> None:
        """Its touches or its copies have changed."""
        line, row = self._line, self._row.get(storage)
        if row is None or not self._here[row]:
            return
        first, last = self._table.first_of[storage], self._table.last_of[storage]
        touched, ends_in_ram = line.touched[first], last in self._model.results
        inner = [node for node in line.touched[last][-2:] if node != line.end]
        self._odd_until[row] = self._odd_since[row] = _NODE
        if len(touched) > 1:
            self._until[row] = touched[1]
        else:
            self._odd_until[row] = _SECOND if first != last else _BEYOND
        self._since[row] = line.end if ends_in_ram else inner[-1] if inner else line.start
        if first == last and len(touched) == 2 and not ends_in_ram:
            self._odd_until[row] = self._odd_since[row] = _BEYOND  # nobody touches it
        paged_in = len(touched) > 1 and self._odd_until[row] == _NODE
        cost = self._model.page_in_cost[first] if paged_in else 0.0
        if first != last and not line.copies[last]:
            cost += self._model.page_out_cost[last]
        self._cost[row] = cost

    def best(self, at: int, over: Ints) -> tuple[int, float, float] | None:
        """The storage to stop it for at a position over the budget: its cost and its gain."""
        until, since, end = *self._away(), self._line.length - 1
        away = ((at < until) | (at > since)) & ((until <= end) | (since > end)) & self._here
        count = over[np.minimum(until, end + 1)] + over[end + 1] - over[np.minimum(since, end) + 1]
        gain = self._size * count
        rows = np.flatnonzero(away & (gain > 0))
        if not len(rows):
            return None
        ratio = self._cost[rows] / gain[rows]
        equal = np.flatnonzero(ratio == ratio.min())
        row = int(rows[equal[gain[rows[equal]].argmax()]])
        return self.storages[row], float(self._cost[row]), float(gain[row])

    def gain(self, storage: int, over: NDArray[np.bool_]) -> tuple[float, float]:
        """The cost of stopping it for one storage, and its gain as the timeline is now."""
        row, end = self._row[storage], self._line.length - 1
        until, since = (int(place[0]) for place in self._away(slice(row, row + 1)))
        if not self._here[row] or (until > end >= since):
            return 0.0, 0.0
        count = np.count_nonzero(over[:until]) + np.count_nonzero(over[since + 1 :])
        return float(self._cost[row]), float(self._size[row] * count)

    def _away(self, rows: slice = slice(None)) -> tuple[Ints, Ints]:
        """The places until which, and since which, the storages of some rows could be away."""
        place, end = self._line.place, self._line.length - 1
        until = np.where(self._odd_until[rows] == _NODE, place[self._until[rows]], end + 1)
        until[self._odd_until[rows] == _SECOND] = 1
        since = np.where(self._odd_since[rows] == _NODE, place[self._since[rows]], end + 1)
        return until, since
