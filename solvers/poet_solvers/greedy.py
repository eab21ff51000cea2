"""Greedy + prune: a plan in milliseconds, with paging, second runs, or both.

Begin with everything held. At the peak, every value that is held and not touched there could be
brought back just before its next use instead: paged in, or computed again together with what that
needs. The one is taken that costs least for each byte-position it brings under the budget; when the
peak fits, whatever turned out redundant is taken back. First runs keep document order.

Invariant: what `greedy_schedule` returns was accepted by the judge for the very problem.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate

from poet_core.plan import Problem, Schedule
from poet_solvers.evict import judged_cost
from poet_solvers.occurrences import END, START, Sequence, StepModel, sequence_schedule, step_model

_MOST_CHAIN = 16
# Values that one choice looks at to bring another back; the graphs of real steps need far fewer.
_MOST_LOOKS = 100
"""Runs that bring back one value at most: design notes, solvers.md (chain insert)."""

_ROUNDS_PER_OP, _ROUNDS = 6, 64


@dataclass(frozen=True, slots=True)
class _Run:
    """One run to insert: the op and which of its inputs are paged in for it."""

    op: int
    paged: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """Bring v back before position `until` instead of holding it since `since`.

    `around`: a persistent storage begins in flash instead and is there from `until` to `since`."""

    value: int
    since: int
    until: int
    cost: float
    gain: float
    runs: tuple[_Run, ...] = ()
    around: bool = False


def _never() -> bool:
    return False


def greedy_schedule(problem: Problem, *, stop: Callable[[], bool] = _never) -> Schedule | None:
    """The schedule of `best_greedy_sequence`, if there is one."""
    found = best_greedy_sequence(problem, stop=stop)
    return None if found is None else sequence_schedule(step_model(problem), found)


def best_greedy_sequence(problem: Problem, *, stop: Callable[[], bool] = _never) -> Sequence | None:
    """The cheapest of the greedy sequences that the judge accepts, or None.

    With paging and second runs both allowed it is tried with both and with paging alone. `stop` is
    asked between choices; what is finished by then counts.
    """
    variants = [problem.allowed]
    if problem.allowed.page and problem.allowed.rematerialize:
        variants.append(replace(problem.allowed, rematerialize=False))
    model = step_model(problem)
    best: tuple[float, Sequence] | None = None
    for allowed in variants:
        found = greedy_sequence(step_model(replace(problem, allowed=allowed)), stop=stop)
        if found is None:
            continue
        cost = judged_cost(problem, sequence_schedule(model, found))
        if cost is not None and (best is None or cost < best[0]):
            best = cost, found
    return best[1] if best else None


def greedy_sequence(model: StepModel, *, stop: Callable[[], bool] = _never) -> Sequence | None:
    """The greedy sequence of one variant; None where it stands still above the budget."""
    greedy = _Greedy(model, stop)
    if not greedy.descend():
        return None
    greedy.prune()
    return greedy.sequence()


def excess_to_save(model: StepModel) -> int:
    """Bytes over the budget, summed over the positions of a sequence that holds everything."""
    return _Greedy(model, _never).excess()


class _Greedy:
    """The sequence and, after `_measure`, its memory by position (START is position 0)."""

    def __init__(self, model: StepModel, stop: Callable[[], bool]) -> None:
        self._model, self._stop = model, stop
        self._looks_left = 0
        self._page = model.problem.allowed.page
        self._table, self._values = model.table, model.table.values
        self._size = [value.ram_bytes for value in self._values]
        self._budget = model.problem.budget.ram_bytes
        ops = range(len(model.problem.graph.ops))
        self._ops: list[int] = [START, *ops, END]
        self._numbers: list[int] = [START, *ops, END]
        self._next_number = len(ops)
        self._paged: set[tuple[int, int]] = set()
        self._start_ram = set(model.persistent)
        self._measure()

    def sequence(self) -> Sequence:
        """As it stands."""
        pairs = zip(self._numbers[1:-1], self._ops[1:-1], strict=True)
        return Sequence(
            runs=tuple(pairs), paged=frozenset(self._paged), start_ram=frozenset(self._start_ram)
        )

    def excess(self) -> int:
        """Bytes over the budget, summed over the positions."""
        return sum(max(0, memory - self._budget) for memory in self._memory)

    def descend(self) -> bool:
        """Bring the peak under the budget; False where no choice does."""
        for _ in range(_ROUNDS_PER_OP * len(self._model.op_cost) + _ROUNDS):
            peak = max(self._memory)
            if peak <= self._budget:
                return True
            choice = self._choose(self._memory.index(peak), peak)
            if choice is None or self._stop():
                return False
            self._take(choice)
        return False

    # -- memory -------------------------------------------------------------------------------

    def _measure(self) -> None:
        """Memory, holds and events from the sequence alone."""
        length = len(self._ops)
        self._extra = [0] * length
        self._touched: list[list[int]] = [[] for _ in self._values]
        self._holds: list[list[tuple[int, int]]] = [[] for _ in self._values]
        self._first: dict[int, int] = {}
        difference = [0] * (length + 1)
        self._last = [-1] * len(self._values)
        for position, op in enumerate(self._ops):
            self._first.setdefault(op, position)
            self._touch(position, op, difference)
        difference[0] += self._model.problem.budget.reserved_bytes
        self._across = list(accumulate(difference[:length]))
        self._memory = [a + b for a, b in zip(self._across, self._extra, strict=True)]

    def _touch(self, position: int, op: int, difference: list[int]) -> None:
        number, last, size = self._numbers[position], self._last, self._size
        for v in self._needed(op):
            since = last[v]
            if since < 0 or (v, number) in self._paged:
                self._extra[position] += size[v]
            else:
                difference[since + 1] += size[v]
                difference[position + 1] -= size[v]
                self._holds[v].append((since, position))
            last[v] = position
            self._touched[v].append(position)
        for v in self._made(op):
            self._extra[position] += size[v]
            last[v] = position
            self._touched[v].append(position)
        if op >= 0:
            self._extra[position] += self._model.workspace_bytes[op]
            for v in self._table.mutated[op]:
                last[v] = position
                self._touched[v].append(position)

    def _needed(self, op: int) -> tuple[int, ...]:
        if op >= 0:
            return self._table.needed[op]
        if op == START:
            return ()
        kept = {self._table.last_of[storage] for storage in self._start_ram}
        return tuple(sorted(kept.union(self._model.results)))

    def _made(self, op: int) -> tuple[int, ...]:
        if op >= 0:
            return self._table.written[op]
        if op == END:
            return ()
        return tuple(
            value.id
            for value in self._values
            if value.starts_step and (not value.persistent or value.storage in self._start_ram)
        )

    # -- choosing -----------------------------------------------------------------------------

    def _choose(self, at: int, peak: int) -> _Choice | None:
        over = [0, *accumulate(memory > self._budget for memory in self._memory)]
        choices: list[_Choice] = []
        for v, holds in enumerate(self._holds):
            if self._stop():
                return None
            for since, until in holds:
                if since < at < until and not self._goes_around(v, since, until):
                    gain = self._size[v] * (over[until] - over[since + 1])
                    choices += self._choices(v, since, until, gain, peak)
        if self._page:
            for storage in self._start_ram:
                choices += self._around(storage, at, over)
        return min(
            choices,
            key=lambda choice: (choice.cost / choice.gain, -choice.gain, choice.value),
            default=None,
        )

    def _choices(self, v: int, since: int, until: int, gain: float, peak: int) -> list[_Choice]:
        found = []
        if self._page:
            cost = self._page_cost(v)
            found.append(_Choice(value=v, since=since, until=until, cost=cost, gain=gain))
        self._looks_left = _MOST_LOOKS
        chain = self._chain(v, until, {v})
        if chain is not None:
            cost, runs = chain
            highest, excess = self._chain_memory(v, until, runs)
            if highest < peak and gain > excess:
                found.append(
                    _Choice(
                        value=v, since=since, until=until, cost=cost, gain=gain - excess,
                        runs=tuple(runs),
                    )
                )  # fmt: skip
        return found

    def _goes_around(self, v: int, since: int, until: int) -> bool:
        """Whether this hold is one half of a persistent storage's stay around the end of step."""
        storage = self._values[v].storage
        if storage not in self._start_ram:
            return False
        return since == 0 or (until == len(self._ops) - 1 and v not in self._model.results)

    def _around(self, storage: int, at: int, over: list[int]) -> list[_Choice]:
        first, last = self._table.first_of[storage], self._table.last_of[storage]
        end = len(self._ops) - 1
        touched, later = self._touched[first], self._touched[last]
        until = touched[1] if len(touched) > 1 else (1 if first != last else end + 1)
        ends_in_ram = last in self._model.results
        since = end if ends_in_ram else max((t for t in later if t < end), default=0)
        if first == last and len(touched) == 2 and not ends_in_ram:
            until = since = end + 1  # nobody touches it but START and END
        if not (at < until or at > since) or (until > end and since <= end):
            return []
        count = over[min(until, end + 1)] + over[end + 1] - over[min(since, end) + 1]
        cost = self._model.page_in_cost[first] if until <= end else 0.0
        if first != last:
            has_copy = any(value == last for value, _ in self._paged)
            cost = 0.0 if len(touched) == 1 else cost
            cost += 0.0 if has_copy else self._model.page_out_cost[last]
        gain = float(self._size[first] * count)
        if gain <= 0:
            return []
        return [_Choice(value=first, since=since, until=until, cost=cost, gain=gain, around=True)]

    def _page_cost(self, v: int) -> float:
        """A page_in, and a page_out where flash has no copy that costs nothing more."""
        storage, cost = self._values[v].storage, self._model.page_in_cost[v]
        if any(value == v for value, _ in self._paged):
            return cost
        if self._values[v].persistent:
            first, last = self._table.first_of[storage], self._table.last_of[storage]
            in_flash = storage not in self._start_ram
            if (v == first and (v == last or in_flash)) or (v == last and in_flash):
                return cost
        return cost + self._model.page_out_cost[v]

    def _chain(self, v: int, before: int, seen: set[int]) -> tuple[float, list[_Run]] | None:
        """What brings v back right before a position: cost and runs; None where nothing does."""
        op = self._values[v].producer
        self._looks_left -= 1  # the ways back branch: on dense graphs there are too many to see all
        if self._looks_left < 0 or op < 0:
            return None
        if not self._model.may_rerun[op] or self._first[op] >= before:
            return None
        if any(self._first[later] < before for later in self._model.superseders[op]):
            return None
        cost, runs, paged = self._model.op_cost[op], list[_Run](), []
        brought = set(seen)
        for w in self._table.needed[op]:
            made = {x for run in runs for x in self._table.written[run.op]}
            if w in made or self._available(w, before):
                continue
            if w in seen:
                return None
            page = self._page_cost(w) if self._page else None
            longer = self._chain(w, before, brought | {w}) if len(seen) <= _MOST_CHAIN else None
            if longer is not None and (page is None or longer[0] < page):
                cost += longer[0]
                runs += [run for run in longer[1] if run not in runs]
            elif page is not None:
                cost += page
                paged.append(w)
            else:
                return None
            if len(runs) >= _MOST_CHAIN:
                return None
        return cost, [*runs, _Run(op, tuple(paged))]

    def _available(self, w: int, before: int) -> bool:
        """Held across the position, or room to hold it that long."""
        if any(since < before <= until for since, until in self._holds[w]):
            return True
        touched = self._touched[w]
        place = bisect_left(touched, before)
        if not place:
            return False
        between = self._memory[touched[place - 1] + 1 : before]
        return not between or max(between) + self._size[w] <= self._budget

    def _chain_memory(self, v: int, before: int, runs: list[_Run]) -> tuple[int, int]:
        """The highest memory of the runs, and bytes over the budget summed over them."""
        held = self._across[before] - self._size[v]
        wanted: dict[int, int] = {v: len(runs)}
        for place, run in enumerate(runs):
            wanted.update(dict.fromkeys(self._table.needed[run.op], place))
        live: set[int] = set()
        highest = excess = 0
        for place, run in enumerate(runs):
            for w in self._table.needed[run.op]:
                if not any(since < before <= until for since, until in self._holds[w]):
                    live.add(w)
            live |= set(self._table.written[run.op])
            memory = held + sum(self._size[w] for w in live) + self._model.workspace_bytes[run.op]
            highest, excess = max(highest, memory), excess + max(0, memory - self._budget)
            live = {w for w in live if wanted.get(w, -1) > place}
        return highest, excess

    # -- taking -------------------------------------------------------------------------------

    def _take(self, choice: _Choice) -> None:
        v = choice.value
        if choice.around:
            self._start_ram.discard(self._values[v].storage)
            self._measure()
        elif choice.runs:
            at = choice.until
            numbers = list(range(self._next_number, self._next_number + len(choice.runs)))
            self._next_number += len(choice.runs)
            self._ops[at:at] = [run.op for run in choice.runs]
            self._numbers[at:at] = numbers
            for number, run in zip(numbers, choice.runs, strict=True):
                self._paged |= {(w, number) for w in run.paged}
            self._measure()
        else:
            self._paged.add((v, self._numbers[choice.until]))
            self._holds[v].remove((choice.since, choice.until))
            for position in range(choice.since + 1, choice.until):
                self._memory[position] -= self._size[v]
                self._across[position] -= self._size[v]
            self._across[choice.until] -= self._size[v]

    def prune(self) -> None:
        """Take back, dearest first, what turned out redundant; it fits all along."""
        self._prune_runs()
        place = {number: position for position, number in enumerate(self._numbers)}
        for v, number in sorted(self._paged, key=lambda one: (-self._page_cost(one[0]), one)):
            touched = self._touched[v]
            before = bisect_left(touched, place[number])
            if not before:
                continue  # begins in flash: its first use pages it in anyway
            since, until = touched[before - 1], place[number]
            between = self._memory[since + 1 : until]
            if not between or max(between) + self._size[v] <= self._budget:
                self._paged.discard((v, number))
                for position in range(since + 1, until):
                    self._memory[position] += self._size[v]

    def _prune_runs(self) -> None:
        again = [
            number
            for number, op in zip(self._numbers, self._ops, strict=True)
            if op >= 0 and number >= len(self._model.op_cost)
        ]
        for number in sorted(again, key=lambda one: -self._model.op_cost[self._op_of(one)]):
            at = self._numbers.index(number)
            if self._stop() or not self._may_go(at):
                continue
            op = self._ops.pop(at)
            del self._numbers[at]
            paged = {one for one in self._paged if one[1] == number}
            self._paged -= paged
            self._measure()
            if max(self._memory) > self._budget:
                self._ops.insert(at, op)
                self._numbers.insert(at, number)
                self._paged |= paged
                self._measure()

    def _op_of(self, number: int) -> int:
        return self._ops[self._numbers.index(number)]

    def _may_go(self, at: int) -> bool:
        """Whether each value that the run gives could be held over it instead (a quick look)."""
        for v in self._table.written[self._ops[at]]:
            touched = self._touched[v]
            place = bisect_left(touched, at)
            used = place + 1 < len(touched) and any(since == at for since, _ in self._holds[v])
            if used:
                between = self._memory[touched[place - 1] + 1 : at]
                if between and max(between) + self._size[v] > self._budget:
                    return False
        return True
