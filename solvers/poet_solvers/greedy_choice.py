"""What greedy may do at a position over the budget, and which of it costs least for its gain.

The gain is in byte-positions: bytes that are brought under the budget, times for how many positions
that are over it. Page_ins and stays around the end of the step are priced all at once; chains are
looked for one by one, in the order of the least that each can cost for its gain, until none can be
cheaper than the best so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from poet_solvers.greedy_chain import Chains
from poet_solvers.greedy_stays import Stays
from poet_solvers.greedy_timeline import Run, Timeline

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A look for a chain is believed for one turn for so many holds that a turn could look at.
_ROWS_PER_TURN = 32


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
        self._stays = Stays(line)
        self._turn = 0

    def choose(self, at: int, peak: int) -> Choice | None:
        """The cheapest for its gain at a position; longer chains where there is nothing else."""
        choice = self._choose(at, peak)
        if choice is None and self._reruns and self._chains.try_harder():
            self._turn += self._line.length  # what is known of chains holds no more
            choice = self._choose(at, peak)
        return choice

    def _choose(self, at: int, peak: int) -> Choice | None:
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
            best = self._best_chain(rows, values, gain, best, at, peak)
        return best

    def take(self, choice: Choice) -> None:
        """Do it."""
        line = self._line
        changed = {choice.value}
        if choice.leaves >= 0:
            line.leave(choice.leaves)
            self._stays.leave(choice.leaves)
            table = line.table
            changed = {table.first_of[choice.leaves], table.last_of[choice.leaves]}
        elif choice.runs:
            for node in line.put_in(choice.until, list(choice.runs)):
                changed.update(line.needed(node))
        else:
            line.page(choice.value, choice.until)
        self.look_again(changed)

    def look_again(self, changed: Iterable[int]) -> None:
        """Values whose touches or copies have changed: say again what page_ins of them cost."""
        for v in changed:
            self.page_cost[v] = self._page[v] = self._page_cost(v)
            if self._line.values[v].persistent:
                self._stays.look_again(self._line.values[v].storage)

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
        self, rows: Ints, values: Ints, gain: Floats, best: Choice | None, at: int, peak: int
    ) -> Choice | None:
        """Looks where a chain may be the cheapest; a look is good for some turns on large graphs."""
        holds = self._line.holds
        self._turn, self._chains.over_at = self._turn + 1, at
        recent = holds.looked[rows] >= max(0, self._turn - len(rows) // _ROWS_PER_TURN)
        least = np.where(
            recent, np.maximum(self._run[values], holds.least[rows]), self._run[values]
        )
        ratio = least / gain
        for index in ratio.argsort(kind="stable"):
            most = inf if best is None else best.ratio
            if ratio[index] >= most or self._stop():
                break
            row, limit = int(rows[index]), most * float(gain[index])
            choice = self._chain(row, float(gain[index]), limit, peak)
            holds.looked[row] = self._turn
            if choice is not None:
                holds.least[row] = choice.ratio * choice.gain
                best = self._cheaper(best, choice)
            else:
                holds.least[row] = limit if self._chains.too_dear else inf
        return best

    def _chain(self, row: int, gain: float, most_cost: float, peak: int) -> Choice | None:
        """The chain that ends a hold, where it costs less and brings memory down."""
        v, until = int(self._line.holds.value[row]), self._line.holds.span(row)[1]
        chain = self._chains.look(v, int(self._line.place[until]), most_cost)
        if chain is None or chain.highest >= peak or chain.excess >= gain:
            return None
        net = gain - chain.excess
        return Choice(
            value=v, until=until, ratio=chain.cost / net, gain=net, runs=tuple(chain.runs)
        )

    def _best_stay(self, at: int, over: Ints) -> Choice | None:
        found = self._stays.best(at, over) if self._may_page else None
        if found is None:
            return None
        storage, cost, gain = found
        return Choice(ratio=cost / gain, gain=gain, leaves=storage)
