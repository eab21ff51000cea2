"""The sequence that greedy works on, with its memory kept up to date run by run.

A *node* is one run: node i is the first run of op i, then START, END and the runs put in later. A
*touch* of a value is a node that needs or gives it; between two touches it is held, unless the
later one brings it anew (it pages it in, makes it, or is the first): that touch is *bare*.

Invariant: `memory` and `across` are what `measured` computes from the sequence alone
(tests/solvers/test_greedy_timeline.py), whatever was put in, taken out, paged or held again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np

from poet_solvers.greedy_holds import Holds
from poet_solvers.occurrences import END, START, Sequence, StepModel

# Sums of bytes up to here are exact in numpy's integers; larger ones are Python's.
_MOST_INT64 = 2**60

Run = tuple[int, tuple[int, ...]]
"""One run to put in: its op, and which of the values that it needs are paged in for it."""


class Timeline:
    """Positions 0 (START) to `length` - 1 (END); `place[node]` is where a node stands.

    `memory[p]`: RAM in use at p. `across[p]`: of that, what is held from before p, to p or beyond.
    """

    def __init__(self, model: StepModel, order: Iterable[int] | None = None) -> None:
        self.model, self.table, self.values = model, model.table, model.table.values
        count = len(model.op_cost)
        self.start, self.end = count, count + 1
        self.op = [*range(count), START, END]
        self.order = [self.start, *(range(count) if order is None else order), self.end]
        self.size = [value.ram_bytes for value in self.values]
        self.paged: set[tuple[int, int]] = set()
        self.copies = [0] * len(self.values)
        self.start_ram = set(model.persistent)
        self.touched: list[list[int]] = [[] for _ in self.values]
        self.bare: list[set[int]] = [set() for _ in self.values]
        total = sum(self.size) + max(model.workspace_bytes) + model.problem.budget.reserved_bytes
        self._bytes: Any = np.int64 if total < _MOST_INT64 else object
        self.place = np.zeros(2 * len(self.order), np.int64)
        self.place[self.order] = np.arange(len(self.order))
        self._measure()

    def _measure(self) -> None:
        """Touches, holds and memory of the sequence as it is at first."""
        for node in self.order:
            for v in (*self.needed(node), *self.given(node)):
                self.touched[v].append(node)
        self.length = len(self.order)
        across = [0] * (self.length + 1)
        extra = [self._workspace(node) for node in self.order]
        across[0] = self.model.problem.budget.reserved_bytes
        self.holds = Holds(len(self.values), sum(map(len, self.touched)))
        for v, size in enumerate(self.size):
            held, bare = self._parts(v)
            self.bare[v] = bare
            for node in bare:
                extra[self.place[node]] += size
            for since, until in held:
                first, last = int(self.place[since]), int(self.place[until])
                across[first + 1] += size
                across[last + 1] -= size
                self.holds.add(v, (since, until), first, last, plain=self._plain(v, since, until))
        summed = list(accumulate(across[: self.length]))
        self._across = np.zeros(2 * self.length, self._bytes)
        self._memory = np.zeros(2 * self.length, self._bytes)
        self._across[: self.length] = summed
        self._memory[: self.length] = [a + b for a, b in zip(summed, extra, strict=True)]

    @property
    def memory(self) -> Any:
        """RAM in use by position."""
        return self._memory[: self.length]

    @property
    def across(self) -> Any:
        """What is held from before a position to it or beyond it, by position."""
        return self._across[: self.length]

    def sequence(self) -> Sequence:
        """As it stands."""
        numbers = {self.start: START, self.end: END}
        return Sequence(
            runs=tuple((node, self.op[node]) for node in self.order[1:-1]),
            paged=frozenset((v, numbers.get(node, node)) for v, node in self.paged),
            start_ram=frozenset(self.start_ram),
        )

    def needed(self, node: int) -> tuple[int, ...]:
        """The values that a run must find."""
        op = self.op[node]
        if op >= 0:
            return self.table.needed[op]
        if op == START:
            return ()
        kept = {self.table.last_of[storage] for storage in self.start_ram}
        return tuple(sorted(kept.union(self.model.results)))

    def given(self, node: int) -> tuple[int, ...]:
        """The values that a run leaves."""
        op = self.op[node]
        if op >= 0:
            return self.table.written[op] + self.table.mutated[op]
        if op == END:
            return ()
        return tuple(
            value.id
            for value in self.values
            if value.starts_step and (not value.persistent or value.storage in self.start_ram)
        )

    def second_runs(self) -> Iterator[int]:
        """The nodes that were put in."""
        return (node for node in self.order if node > self.end)

    def is_held(self, v: int, position: int) -> bool:
        """Whether v is in RAM right before a position, and stays until then or later."""
        place = self.place
        return any(place[since] < position <= place[until] for since, until in self.holds.of[v])

    def last_before(self, v: int, position: int) -> int:
        """The place of the last touch of v before a position; -1 where there is none."""
        place = self.place
        for node in reversed(self.touched[v]):
            if place[node] < position:
                return int(place[node])
        return -1

    # -- changes ------------------------------------------------------------------------------

    def page(self, v: int, node: int) -> None:
        """Page v in at a node that needs it, instead of holding it until there."""
        self.paged.add((v, node))
        self.copies[v] += 1
        self._again(v)

    def hold(self, v: int, node: int) -> None:
        """Hold v until a node, instead of paging it in."""
        self.paged.discard((v, node))
        self.copies[v] -= 1
        self._again(v)

    def leave(self, storage: int) -> None:
        """Begin and end the step without a persistent storage in RAM."""
        first, last = self.table.first_of[storage], self.table.last_of[storage]
        self.start_ram.discard(storage)
        self.touched[first].remove(self.start)
        if last not in self.model.results:
            self.touched[last].remove(self.end)
        self._again(first)
        self._again(last)

    def come_back(self, storage: int) -> None:
        """Begin and end the step with a persistent storage in RAM."""
        first, last = self.table.first_of[storage], self.table.last_of[storage]
        self.start_ram.add(storage)
        self.touched[first].insert(0, self.start)
        if last not in self.model.results:
            self.touched[last].append(self.end)
        self._again(first)
        self._again(last)

    def put_in(self, before: int, runs: list[Run]) -> list[int]:
        """Put runs right before a node; their nodes."""
        at, count = int(self.place[before]), len(runs)
        nodes = list(range(len(self.op), len(self.op) + count))
        self._shift(at, count)
        self.order[at:at] = nodes
        self.place[nodes] = np.arange(at, at + count)
        changed: dict[int, None] = {}
        for node, (op, paged) in zip(nodes, runs, strict=True):
            self.op.append(op)
            self._memory[self.place[node]] += self._workspace(node)
            for v in paged:
                self.paged.add((v, node))
                self.copies[v] += 1
            for v in (*self.needed(node), *self.given(node)):
                self._insert_touch(v, node)
                changed[v] = None
        for v in changed:
            self._again(v)
        return nodes

    def take_out(self, node: int) -> tuple[int, Run]:
        """Take a run out; the node after it and the run, to put it in again."""
        run = self.op[node], tuple(v for v in self.needed(node) if (v, node) in self.paged)
        for v in run[1]:
            self.paged.discard((v, node))
            self.copies[v] -= 1
        for v in (*self.needed(node), *self.given(node)):
            self.touched[v].remove(node)
            self._again(v)
        at = int(self.place[node])
        self.order.pop(at)
        self._shift(at, -1)
        return self.order[at], run

    def _insert_touch(self, v: int, node: int) -> None:
        touched, at = self.touched[v], self.place[node]
        index = len(touched)
        while index and self.place[touched[index - 1]] > at:
            index -= 1
        touched.insert(index, node)

    def _shift(self, at: int, count: int) -> None:
        """Make room for `count` positions at `at`, or close one (-1)."""
        old, new = self.length, self.length + count
        for name in ("_memory", "_across"):
            array = getattr(self, name)
            if new > len(array):
                array = np.concatenate([array, np.zeros(new, self._bytes)])
                setattr(self, name, array)
            if count > 0:
                array[at + count : new] = array[at:old].copy()
                array[at : at + count] = self._across[at]
            else:
                array[at:new] = array[at + 1 : old].copy()
        if len(self.op) + count > len(self.place):
            self.place = np.concatenate([self.place, np.zeros(len(self.place) + count, np.int64)])
        threshold = at if count > 0 else at + 1
        self.place[self.place >= threshold] += count
        self.holds.shift(threshold, count)
        self.length = new

    def _again(self, v: int) -> None:
        """Bring the holds of a value up to date, and the memory with them."""
        size, place = self.size[v], self.place
        held, bare = self._parts(v)
        before = self.holds.of[v]
        for since, until in [one for one in before if one not in held]:
            first, last = int(place[since]) + 1, int(place[until]) + 1
            self._memory[first:last] -= size
            self._across[first:last] -= size
            self.holds.remove(v, (since, until))
        for since, until in held:
            plain = self._plain(v, since, until)
            if (since, until) in before:
                self.holds.mark(v, (since, until), int(place[since]), int(place[until]), plain)
                continue
            first, last = int(place[since]), int(place[until])
            self._memory[first + 1 : last + 1] += size
            self._across[first + 1 : last + 1] += size
            self.holds.add(v, (since, until), first, last, plain=plain)
        for node in self.bare[v] - bare:
            self._memory[place[node]] -= size
        for node in bare - self.bare[v]:
            self._memory[place[node]] += size
        self.bare[v] = bare

    def _parts(self, v: int) -> tuple[dict[tuple[int, int], None], set[int]]:
        """The holds of a value and its bare touches, from its touches alone."""
        held: dict[tuple[int, int], None] = {}
        bare: set[int] = set()
        producer = self.values[v].producer
        since = -1
        for node in self.touched[v]:
            op = self.op[node]
            made = op == producer and op >= 0
            if made and v in self.table.mutated[op]:
                pass  # in the bytes of the version before
            elif made or since < 0 or (v, node) in self.paged:
                bare.add(node)
            else:
                held[since, node] = None
            since = node
        return held, bare

    def _plain(self, v: int, since: int, until: int) -> bool:
        """Whether a hold stands for itself: not one half of a stay around the end of the step."""
        value = self.values[v]
        if value.storage not in self.start_ram:
            return True
        return since != self.start and (until != self.end or v in self.model.results)

    def _workspace(self, node: int) -> int:
        op = self.op[node]
        return self.model.workspace_bytes[op] if op >= 0 else 0
