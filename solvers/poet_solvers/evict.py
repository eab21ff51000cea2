"""A simple schedule that always exists: document order, and what does not fit goes to flash.

Before each op the missing inputs are paged in; where RAM is short, what is used farthest in the
future leaves first (Belady), clean copies for nothing. Invariant: with paging allowed and flash
unlimited it meets every budget from the RAM floor up, so a planner that has it is never without a
plan. Nothing is computed twice.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from poet_core.bounds import ram_floor
from poet_core.errors import PlanError
from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.values import ValueTable

# How much of the RAM above the floor persistent storages may hold all step, in the variants tried.
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)

# Sums of bytes up to here are exact in numpy's integers; larger ones are Python's.
_MOST_INT64 = 2**60


def best_evict_schedule(problem: Problem, table: ValueTable) -> Schedule | None:
    """The cheapest of some variants that the judge accepts; None where it accepts none."""
    if not problem.allowed.page:
        return None
    best: tuple[float, Schedule] | None = None
    tried: set[frozenset[int]] = set()
    for share in _SHARES:
        kept = _kept_storages(problem, share)
        if kept in tried:
            continue
        tried.add(kept)
        schedule = evict_schedule(problem, table, kept)
        cost = None if schedule is None else judged_cost(problem, schedule)
        if schedule is not None and cost is not None and (best is None or cost < best[0]):
            best = cost, schedule
    return best[1] if best else None


def judged_cost(problem: Problem, schedule: Schedule) -> float | None:
    """The judge's joules or seconds, by the problem's objective; None where it refuses."""
    try:
        judgement = simulate(
            problem.graph, problem.costs, problem.budget, schedule, problem.allowed
        )
    except PlanError:
        return None
    energy = problem.objective is Objective.ENERGY
    return judgement.energy_joules if energy else judgement.step_seconds


def evict_schedule(
    problem: Problem, table: ValueTable, kept: frozenset[int] = frozenset()
) -> Schedule | None:
    """The schedule in which the persistent storages `kept` stay in RAM and all others begin in
    flash; None where an op does not fit beside `kept`."""
    return _Evictor(problem, table, kept).schedule()


def _kept_storages(problem: Problem, share: float) -> frozenset[int]:
    """Persistent storages that fit beside every op within a share of the RAM above the floor,
    those first that cost most to page for their bytes."""
    budget, graph, costs = problem.budget, problem.graph, problem.costs
    floor = ram_floor(graph, budget).floor_bytes
    limit = floor + share * (budget.ram_bytes - floor)
    rounded = [budget.rounded(storage.size_bytes) for storage in graph.storages]
    at_end = tuple(s.id for s in graph.storages if s.result)
    inputs = tuple(s.id for s in graph.storages if graph.begins_resident(s.id) and not s.persistent)
    touches = [*(op.touches for op in graph.ops), at_end, inputs]
    workspaces = [*(budget.rounded(op.workspace_bytes) for op in graph.ops), 0, 0]
    touched: list[list[int]] = [[] for _ in graph.storages]
    for moment, storages in enumerate(touches):
        for storage in storages:
            touched[storage].append(moment)

    def worth(storage: int) -> float:
        joules = costs.page_in_joules[storage] * len(touched[storage])
        if graph.versions.last[storage]:
            joules += costs.page_out_joules[storage]
        return joules / rounded[storage]

    persistent = [s.id for s in graph.storages if s.persistent and s.size_bytes]
    exact = budget.reserved_bytes + sum(rounded) + max(workspaces) < _MOST_INT64
    needed = np.array(
        [
            budget.reserved_bytes + sum(rounded[s] for s in storages) + workspace
            for storages, workspace in zip(touches, workspaces, strict=True)
        ],
        np.int64 if exact else object,
    )
    kept: set[int] = set()
    for storage in sorted(persistent, key=lambda s: (-worth(s), s)):
        needed += rounded[storage]
        needed[touched[storage]] -= rounded[storage]
        if needed.max() <= limit:
            kept.add(storage)
        else:
            needed -= rounded[storage]
            needed[touched[storage]] += rounded[storage]
    return frozenset(kept)


class _Evictor:
    """RAM and flash hold value ids by storage; `used` counts RAM as the judge does.

    `later`: storages in RAM, those used farthest in the future first; an entry whose next use is no
    longer that one is passed over."""

    def __init__(self, problem: Problem, table: ValueTable, kept: frozenset[int]) -> None:
        self._problem, self._table, self._kept = problem, table, kept
        self._graph, self._budget = problem.graph, problem.budget
        self._out: list[Instruction] = []
        self._done = 0  # ops run so far, which is also the next op
        starts = [value for value in table.values if value.starts_step]
        self._start_flash = [v.storage for v in starts if v.persistent and v.storage not in kept]
        self._flash = {storage: table.first_of[storage] for storage in self._start_flash}
        self._ram = {v.storage: v.id for v in starts if v.storage not in self._flash}
        self._used = self._budget.reserved_bytes + self._bytes(self._ram.values())
        self._later: list[tuple[int, int]] = []
        for storage in self._ram:
            self._expect(storage)

    def schedule(self) -> Schedule | None:
        start_ram = sorted(self._kept)
        touched: Iterable[int] = tuple(self._ram)
        for op in self._graph.ops:
            self._free_dead(touched)
            if not self._make_room(op.id):
                return None
            for v in self._table.needed[op.id]:
                self._page_in(v)
            self._out.append(Instruction(Do.COMPUTE, op.id))
            self._done = op.id + 1
            self._used += self._bytes(self._table.written[op.id])
            for v in self._table.given(op.id):
                self._ram[self._table.values[v].storage] = v
            touched = op.touches
            for storage in touched:
                self._expect(storage)
        self._free_dead(touched)
        return self._finish(start_ram)

    def _expect(self, storage: int) -> None:
        """Note when a storage is used next, if it is in RAM and may leave."""
        if storage in self._ram and storage not in self._kept:
            heapq.heappush(self._later, (-self._next_use(storage), -storage))

    def _finish(self, start_ram: list[int]) -> Schedule | None:
        stay = set(self._kept)
        stay |= {s.id for s in self._graph.storages if s.result and s.size_bytes}
        for storage in sorted(self._ram.keys() - stay):
            self._evict(storage)
        for storage in self._start_flash:
            if storage in self._ram and self._flash.get(storage) != self._ram[storage]:
                self._page_out(storage)
        for storage in sorted(stay - self._ram.keys()):
            self._page_in(self._table.last_of[storage])
        if self._used > self._budget.ram_bytes:
            return None
        return Schedule(
            start_ram=tuple(start_ram),
            start_flash=tuple(self._start_flash),
            instructions=tuple(self._out),
        )

    def _bytes(self, values: Iterable[int]) -> int:
        return sum(self._table.values[v].ram_bytes for v in values)

    def _next_use(self, storage: int) -> int:
        """The next op that needs what RAM holds of a storage, else the end of the step."""
        users = self._table.values[self._ram[storage]].users
        position = bisect_left(users, self._done)
        return users[position] if position < len(users) else len(self._graph.ops)

    def _free_dead(self, touched: Iterable[int]) -> None:
        """Free what nobody needs any more, among what was just touched; what flash must have at the
        end is paged out first."""
        for storage in sorted(storage for storage in touched if storage in self._ram):
            v = self._ram[storage]
            value = self._table.values[v]
            stays = storage in self._kept or self._graph.storages[storage].result
            if not self._used_again(v) and not (value.at_end and stays):
                self._evict(storage)

    def _used_again(self, v: int) -> bool:
        users = self._table.values[v].users
        return bool(users) and users[-1] >= self._done

    def _make_room(self, op_id: int) -> bool:
        """Evict what is used farthest in the future until op_id fits."""
        op, table = self._graph.ops[op_id], self._table
        missing = [v for v in table.needed[op_id] if self._ram.get(table.values[v].storage) != v]
        coming = self._bytes(missing) + self._bytes(table.written[op_id])
        coming += self._budget.rounded(op.workspace_bytes)
        stay: list[tuple[int, int]] = []
        while self._used + coming > self._budget.ram_bytes:
            if not self._later:
                return False
            entry = heapq.heappop(self._later)
            storage = -entry[1]
            if storage in op.touches:
                stay.append(entry)
            elif storage in self._ram and -entry[0] == self._next_use(storage):
                self._evict(storage)
        for entry in stay:
            heapq.heappush(self._later, entry)
        return True

    def _evict(self, storage: int) -> None:
        """Free a storage; page its value out first where somebody still needs the copy."""
        v = self._ram[storage]
        value = self._table.values[v]
        wanted = value.at_end or self._used_again(v)
        if wanted and self._flash.get(storage) != v:
            self._page_out(storage)
        self._out.append(Instruction(Do.FREE, storage))
        del self._ram[storage]
        self._used -= value.ram_bytes

    def _page_out(self, storage: int) -> None:
        self._out.append(Instruction(Do.PAGE_OUT, storage))
        self._flash[storage] = self._ram[storage]

    def _page_in(self, v: int) -> None:
        value = self._table.values[v]
        if self._ram.get(value.storage) == v:
            return
        self._out.append(Instruction(Do.PAGE_IN, value.storage))
        self._ram[value.storage] = v
        self._used += value.ram_bytes
