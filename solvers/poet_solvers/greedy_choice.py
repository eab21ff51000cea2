"""What greedy may do at a position over the budget, and which of it costs least for its gain.

The gain is in byte-positions: bytes that are brought under the budget, times for how many positions
that are over it. Page_ins and stays around the end of the step are priced all at once; chains are
looked for one by one, in the order of the least that each can cost for its gain, until none can be
cheaper than the best so far.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from poet_solvers.greedy_chain import Chains
from poet_solvers.greedy_stays import Stays
from poet_solvers.greedy_timeline import Run, Timeline
from poet_solvers.repetition import repetition

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# A look for a chain is believed for one turn for so many holds that a turn could look at.
_ROWS_PER_TURN, _ROWS_PER_TURN_ALIKE = 32, 64

# What is alike is taken with a choice where it costs at most that much more for its gain; chains are
# worth comparing more closely, since what one brings back the next need not.
_ABOUT, _ABOUT_CHAINS = 1.5, 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Bring `value` back before the node `until` instead of holding it until there.

    `leaves`: a persistent storage that begins in flash instead (then nothing else counts). `kind`:
    of the hold that ends."""

    value: int = -1
    until: int = -1
    ratio: float
    gain: float
    runs: tuple[Run, ...] = ()
    leaves: int = -1
    kind: int = -1


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
        self._repetition = repetition(model)
        self._kind_of: dict[tuple[int, ...], int] = {}
        self._kind_least: Floats = np.zeros(0, np.float64)
        self._kind_looked: Ints = np.zeros(0, np.int64)

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

    def alike(self, choice: Choice) -> Iterator[Choice]:
        """The same elsewhere, where it costs about as little for its gain; each as the timeline is
        when it is asked for, and only where that is over the budget still."""
        if choice.leaves >= 0:
            yield from self._alike_stays(choice)
        else:
            yield from self._alike_holds(choice)

    def _alike_stays(self, choice: Choice) -> Iterator[Choice]:
        first_of, classes = self._line.table.first_of, self._repetition.value_class
        alike = classes[first_of[choice.leaves]]
        for storage in self._stays.storages:
            if classes[first_of[storage]] == alike:
                cost, gain = self._stays.gain(storage, self._line.memory > self._budget)
                if gain and cost / gain <= choice.ratio * _ABOUT:
                    yield Choice(ratio=cost / gain, gain=gain, leaves=storage)

    def _alike_holds(self, choice: Choice) -> Iterator[Choice]:
        line, holds = self._line, self._line.holds
        most = choice.ratio * (_ABOUT_CHAINS if choice.runs else _ABOUT)
        self._kinds(np.flatnonzero(holds.since >= 0))
        rows = np.flatnonzero((holds.kind == choice.kind) & (holds.since >= 0))
        for v, span in [(int(holds.value[row]), holds.span(row)) for row in rows.tolist()]:
            row = holds.of[v].get(span, -1)
            if row < 0 or holds.since[row] < 0:
                continue
            between = line.memory[holds.since[row] + 1 : holds.until[row]]
            gain = line.size[v] * float(np.count_nonzero(between > self._budget))
            if not gain:
                continue
            found: Choice | None = None
            if choice.runs:
                self._chains.over_at = -1
                found = self._chain(row, gain, most * gain, int(between.max()))
            elif self.page_cost[v] <= most * gain:
                found = replace(choice, value=v, until=span[1], ratio=self.page_cost[v] / gain)
            if found is not None and found.ratio <= most:
                yield found

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
        row = int(rows[best])
        return Choice(
            value=int(values[best]),
            until=self._line.holds.span(row)[1],
            ratio=float(ratio[best]),
            gain=float(gain[best]),
            kind=int(self._kinds(rows[best : best + 1])[0]),
        )

    def _best_chain(
        self, rows: Ints, values: Ints, gain: Floats, best: Choice | None, at: int, peak: int
    ) -> Choice | None:
        """Looks where a chain may be the cheapest, as far as is known of alike holds."""
        holds = self._line.holds
        self._turn, self._chains.over_at = self._turn + 1, at
        kinds = self._kinds(rows)
        least = np.maximum(self._run[values], self._known(rows, kinds))
        ratio, share = least / gain, len(rows) >= _ROWS_PER_TURN_ALIKE
        for index in ratio.argsort(kind="stable"):
            most = inf if best is None else best.ratio
            if ratio[index] >= most or self._stop():
                break
            row, kind, limit = int(rows[index]), int(kinds[index]), most * float(gain[index])
            if share and self._kind_looked[kind] == self._turn and self._kind_least[kind] >= limit:
                continue
            choice = self._chain(row, float(gain[index]), limit, peak)
            holds.looked[row] = self._kind_looked[kind] = self._turn
            if choice is not None:
                least_cost = choice.ratio * choice.gain
                best = self._cheaper(best, choice)
            else:
                least_cost = limit if self._chains.too_dear else inf
            holds.least[row] = self._kind_least[kind] = least_cost
        return best

    def _known(self, rows: Ints, kinds: Ints) -> Floats:
        """The least that chains cost as far as was seen lately, of a hold or of one like it."""
        holds, turn = self._line.holds, self._turn
        own = holds.looked[rows] >= max(0, turn - len(rows) // _ROWS_PER_TURN)
        alike = self._kind_looked[kinds] >= max(0, turn - len(rows) // _ROWS_PER_TURN_ALIKE)
        known = np.where(own, holds.least[rows], 0.0)
        return np.maximum(known, np.where(alike, self._kind_least[kinds], 0.0))

    def _kinds(self, rows: Ints) -> Ints:
        """Numbers for holds: the same where values and the ops at both ends are alike."""
        holds, line, classes = self._line.holds, self._line, self._repetition
        for row in rows[holds.kind[rows] < 0].tolist():
            ends = (line.op[node] for node in holds.span(row))
            key = (
                classes.value_class[holds.value[row]],
                *(classes.op_class[op] if op >= 0 else op for op in ends),
            )
            kind = self._kind_of.setdefault(key, len(self._kind_of))
            holds.kind[row] = kind
            if kind == len(self._kind_least):
                self._kind_least = np.append(self._kind_least, 0.0)
                self._kind_looked = np.append(self._kind_looked, -1)
        return holds.kind[rows]

    def _chain(self, row: int, gain: float, most_cost: float, peak: int) -> Choice | None:
        """The chain that ends a hold, where it costs less and brings memory down."""
        v, until = int(self._line.holds.value[row]), self._line.holds.span(row)[1]
        chain = self._chains.look(v, int(self._line.place[until]), most_cost)
        if chain is None or chain.highest >= peak or chain.excess >= gain:
            return None
        net = gain - chain.excess
        return Choice(
            value=v,
            until=until,
            ratio=chain.cost / net,
            gain=net,
            runs=tuple(chain.runs),
            kind=int(self._line.holds.kind[row]),
        )

    def _best_stay(self, at: int, over: Ints) -> Choice | None:
        found = self._stays.best(at, over) if self._may_page else None
        if found is None:
            return None
        storage, cost, gain = found
        return Choice(ratio=cost / gain, gain=gain, leaves=storage)
