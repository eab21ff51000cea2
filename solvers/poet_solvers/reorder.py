"""Other orders of first runs that may need less RAM: what greedy begins with where it may reorder.

List scheduling, twice. Forwards: of the ops that may run next, the one after which least is held.
Backwards, from the end of the step: of those that may be last, the one that needs least RAM beside
what is held after it. An op waits for the versions that it needs, for everybody who needs a version
that it overwrites and, if it is random, for the random op before it.

Invariant: every order that leaves here gives the graph the meaning that document order gives it.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable

from poet_core.graph import TrainingGraph
from poet_solvers.occurrences import StepModel


def lean_orders(model: StepModel) -> tuple[list[int], list[int]]:
    """Op ids in two orders of first runs."""
    before = order_rules(model.problem.graph)
    after: list[list[int]] = [[] for _ in before]
    for op, waits in enumerate(before):
        for earlier in waits:
            after[earlier].append(op)
    forwards = _Forwards(model, before, after).order()
    return forwards, _Backwards(model, after, before).order()[::-1]


def order_rules(graph: TrainingGraph) -> list[set[int]]:
    """By op: the ops that must have run before its first run (of chains of such, the last)."""
    producer: dict[tuple[int, int], int] = {}
    users: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    before: list[set[int]] = []
    newest_random = -1
    for op in graph.ops:
        waits: set[int] = set()
        for pair in graph.versions.need[op.id].items():
            if pair in producer:
                waits.add(producer[pair])
            users[pair].append(op.id)
        for storage, version in graph.versions.gives[op.id].items():
            older = (storage, version - 1)
            waits.update(users[older])
            if older in producer:
                waits.add(producer[older])
            producer[storage, version] = op.id
        if op.random:
            if newest_random >= 0:
                waits.add(newest_random)
            newest_random = op.id
        before.append(waits - {op.id})
    return before


class _Listing(ABC):
    """Takes the op of the smallest key among those that wait for nobody, again and again."""

    def __init__(
        self, model: StepModel, waits_for: Iterable[Iterable[int]], releases: list[Iterable[int]]
    ) -> None:
        self._table, self._values = model.table, model.table.values
        self._waits = [len(list(ops)) for ops in waits_for]
        self._releases = releases
        stays = {value.id for value in self._values if value.persistent and value.at_end}
        self._stays = stays.union(model.results)

    def order(self) -> list[int]:
        """Every op once."""
        order: list[int] = []
        done = [False] * len(self._waits)
        heap = [(self._key(op), op) for op, waits in enumerate(self._waits) if not waits]
        heapq.heapify(heap)
        while heap:
            key, op = heapq.heappop(heap)
            if done[op] or key != self._key(op):
                continue  # its key has changed since, and it was put in again
            done[op] = True
            order.append(op)
            changed = {user for user in self._run(op) if not self._waits[user] and not done[user]}
            for other in self._releases[op]:
                self._waits[other] -= 1
                if not self._waits[other]:
                    changed.add(other)
            for other in changed:
                heapq.heappush(heap, (self._key(other), other))
        return order

    def _bytes(self, values: Iterable[int]) -> int:
        return sum(self._values[v].ram_bytes for v in values)

    @abstractmethod
    def _key(self, op: int) -> tuple[int, ...]:
        """Smaller is sooner."""

    @abstractmethod
    def _run(self, op: int) -> Iterable[int]:
        """Take the op; those whose key may have changed."""


class _Forwards(_Listing):
    """`_users[v]`: who still needs v, the end of the step among them."""

    def __init__(self, model: StepModel, before: list[set[int]], after: list[list[int]]) -> None:
        super().__init__(model, before, [*after])
        self._users = [len(value.users) + (value.id in self._stays) for value in self._values]

    def _key(self, op: int) -> tuple[int, ...]:
        given = self._table.written[op] + self._table.mutated[op]
        gone = self._bytes(v for v in self._table.needed[op] if self._users[v] == 1)
        return self._bytes(v for v in given if self._users[v]) - gone, op

    def _run(self, op: int) -> Iterable[int]:
        changed: set[int] = set()
        for v in self._table.needed[op]:
            self._users[v] -= 1
            if self._users[v] == 1:
                changed.update(self._values[v].users)
        return changed


class _Backwards(_Listing):
    """`_live`: what is held after the moment that the listing has come to."""

    def __init__(self, model: StepModel, after: list[list[int]], before: list[set[int]]) -> None:
        super().__init__(model, after, [*before])
        self._live = set(self._stays)

    def _key(self, op: int) -> tuple[int, ...]:
        needed, given = self._table.needed[op], self._table.given(op)
        more = self._bytes(v for v in needed if v not in self._live)
        written = self._bytes(v for v in self._table.written[op] if v not in self._live)
        return more + written, more - self._bytes(v for v in given if v in self._live), -op

    def _run(self, op: int) -> Iterable[int]:
        changed: set[int] = set()
        for v in self._table.needed[op]:
            if v not in self._live:
                self._live.add(v)
                changed.update(self._values[v].users)
        self._live.difference_update(self._table.given(op))
        return changed
