"""What greedy may do at a position over the budget, and which of it costs least for its gain.

The gain is in byte-positions: bytes that are brought under the budget, times for how many positions
that are over it. Page_ins and stays around the end of the step are priced all at once; chains are
looked for one by one, in the order of the least that each can cost for its gain, until none can be
cheaper than the best so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from poet_solvers.greedy_chain import Chains
from poet_solvers.greedy_timeline import Run, Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Bring `value` back before the node `until` instead of holding it until there.

    `leaves`: a persistent storage that begins in flash instead (then nothing else counts)."""

    value: int = -1
    until: int = -1
    ratio: float
    gain: float
    runs: tuple[Run, ...] = ()
    leaves: int = -1


class Chooser:
    """Choices on one timeline; keeps what a page_in of each value costs at the moment."""

    def __init__(self, line: Timeline, stop: Callable[[], bool]) -> None:
        self._line, self._stop, self._model = line, stop, line.model
        self._budget = self._model.problem.budget.ram_bytes
        self._may_page = self._model.problem.allowed.page
        self.page_cost = [self._page_cost(v) for v in range(len(line.values))]
        self._page: Floats = np.array(self.page_cost, np.float64)
        self._size: Floats = np.array(line.size, np.float64)
        model = self._model
        self._run: Floats = np.array(
            [
                model.op_cost[value.producer]
                if value.producer >= 0 and model.may_rerun[value.producer]
                else inf
                for value in line.values
            ],
            np.float64,
        )
        self._reruns = bool(np.isfinite(self._run).any())
        self._chains = Chains(line, self.page_cost)
        self._stays = sorted(line.start_ram) if self._may_page else []

    def choose(self, at: int, peak: int) -> Choice | None:
        """The cheapest for its gain at a position."""
        line = self._line
        over = np.zeros(line.length + 2, np.int64)
        np.cumsum(line.memory > self._budget, out=over[1:-1])
        over[-1] = over[-2]
        rows = line.holds.across(at)
        values = line.holds.value[rows]
        gain = self._size[values] * (
            over[line.holds.until[rows]] - over[line.holds.since[rows] + 1]
        )
        best = self._best_page(rows, values, gain) if self._may_page else None
        best = self._cheaper(best, self._best_stay(at, over))
        if self._reruns:
            best = self._best_chain(rows, values, gain, best, peak)
        return best

    def take(self, choice: Choice) -> None:
        """Do it."""
        line = self._line
        changed = {choice.value}
        if choice.leaves >= 0:
            line.leave(choice.leaves)
            self._stays.remove(choice.leaves)
            table = line.table
            changed = {table.first_of[choice.leaves], table.last_of[choice.leaves]}
        elif choice.runs:
            line.put_in(choice.until, list(choice.runs))
            changed.update(v for _, paged in choice.runs for v in paged)
        else:
            line.page(choice.value, choice.until)
        self.price_again(changed)

    def price_again(self, changed: set[int]) -> None:
        """Say again what page_ins of some values cost."""
        for v in changed:
            self.page_cost[v] = self._page[v] = self._page_cost(v)

    def _page_cost(self, v: int) -> float:
        """A page_in, and a page_out where flash has no copy that costs nothing more."""
        if not self._may_page:
            return inf
        line, value = self._line, self._line.values[v]
        cost = self._model.page_in_cost[v]
        if line.copies[v]:
            return cost
        if value.persistent:
            first, last = line.table.first_of[value.storage], line.table.last_of[value.storage]
            in_flash = value.storage not in line.start_ram
            if (v == first and (v == last or in_flash)) or (v == last and in_flash):
                return cost
        return cost + self._model.page_out_cost[v]

    @staticmethod
    def _cheaper(one: Choice | None, other: Choice | None) -> Choice | None:
        if one is None or other is None:
            return one or other
        return min(one, other, key=lambda choice: (choice.ratio, -choice.gain))

    def _best_page(self, rows: Ints, values: Ints, gain: Floats) -> Choice | None:
        if not len(rows):
            return None
        ratio = self._page[values] / gain
        equal = np.flatnonzero(ratio == ratio.min())
        best = equal[gain[equal].argmax()]
        _, until = self._line.holds.span(int(rows[best]))
        return Choice(
            value=int(values[best]), until=until, ratio=float(ratio[best]), gain=float(gain[best])
        )

    def _best_chain(
        self, rows: Ints, values: Ints, gain: Floats, best: Choice | None, peak: int
    ) -> Choice | None:
        least = self._run[values] / gain
        for index in least.argsort(kind="stable"):
            most = inf if best is None else best.ratio
            if least[index] >= most or self._stop():
                break
            v, bytes_gained = int(values[index]), float(gain[index])
            until = self._line.holds.span(int(rows[index]))[1]
            chain = self._chains.look(v, int(self._line.place[until]), most * bytes_gained)
            if chain is None or chain.highest >= peak or chain.excess >= bytes_gained:
                continue
            net = bytes_gained - chain.excess
            choice = Choice(
                value=v, until=until, ratio=chain.cost / net, gain=net, runs=tuple(chain.runs)
            )
            best = self._cheaper(best, choice)
        return best

    def _best_stay(self, at: int, over: Ints) -> Choice | None:
        best = None
        for storage in self._stays:
            best = self._cheaper(best, self._stay(storage, at, over))
        return best

    def _stay(self, storage: int, at: int, over: Ints) -> Choice | None:
        """Begin and end in flash: away until the first use, and from the last one on."""
        line = self._line
        first, last = line.table.first_of[storage], line.table.last_of[storage]
        end = line.length - 1
        touched, later = line.touched[first], line.touched[last]
        until = (
            int(line.place[touched[1]]) if len(touched) > 1 else (1 if first != last else end + 1)
        )
        ends_in_ram = last in self._model.results
        inner = [node for node in later[-2:] if node != line.end]
        since = end if ends_in_ram else (int(line.place[inner[-1]]) if inner else 0)
        if first == last and len(touched) == 2 and not ends_in_ram:
            until = since = end + 1  # nobody touches it but START and END
        if not (at < until or at > since) or (until > end and since <= end):
            return None
        count = int(over[min(until, end + 1)] + over[end + 1] - over[min(since, end) + 1])
        cost = self._model.page_in_cost[first] if until <= end else 0.0
        if first != last:
            cost = 0.0 if len(touched) == 1 else cost
            cost += 0.0 if line.copies[last] else self._model.page_out_cost[last]
        gain = self._size[first] * count
        return Choice(ratio=cost / gain, gain=gain, leaves=storage) if gain > 0 else None
