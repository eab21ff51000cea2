"""A simple schedule that always exists: document order, and what does not fit goes to flash.

Before each op the missing inputs are paged in; where RAM is short, what is used farthest in the
future leaves first (Belady), clean copies for nothing. Invariant: with paging allowed and flash
unlimited it meets every budget from the RAM floor up, so a planner that has it is never without a
plan. Nothing is computed twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from poet_core.bounds import ram_floor
from poet_core.errors import PlanError
from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.values import ValueTable

# How much of the RAM above the floor persistent storages may hold all step, in the variants tried.
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


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
    touched = [frozenset(op.touches) for op in graph.ops]
    needed = [
        budget.reserved_bytes
        + sum(rounded[s] for s in op.touches)
        + budget.rounded(op.workspace_bytes)
        for op in graph.ops
    ]
    at_end = frozenset(s.id for s in graph.storages if s.result)
    inputs = frozenset(
        s.id for s in graph.storages if graph.begins_resident(s.id) and not s.persistent
    )
    for storages in (at_end, inputs):
        touched.append(storages)
        needed.append(budget.reserved_bytes + sum(rounded[s] for s in storages))

    def worth(storage: int) -> float:
        uses = sum(storage in storages for storages in touched)
        joules = costs.page_in_joules[storage] * uses
        if graph.versions.last[storage]:
            joules += costs.page_out_joules[storage]
        return joules / rounded[storage]

    persistent = [s.id for s in graph.storages if s.persistent and s.size_bytes]
    kept: set[int] = set()
    for storage in sorted(persistent, key=lambda s: (-worth(s), s)):
        with_it = [
            size if storage in storages else size + rounded[storage]
            for size, storages in zip(needed, touched, strict=True)
        ]
        if max(with_it) <= limit:
            needed = with_it
            kept.add(storage)
    return frozenset(kept)


class _Evictor:
    """RAM and flash hold value ids by storage; `used` counts RAM as the judge does."""

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

    def schedule(self) -> Schedule | None:
        start_ram = sorted(self._kept)
        for op in self._graph.ops:
            self._free_dead()
            if not self._make_room(op.id):
                return None
            for v in self._table.needed[op.id]:
                self._page_in(v)
            self._out.append(Instruction(Do.COMPUTE, op.id))
            self._done = op.id + 1
            self._used += self._bytes(self._table.written[op.id])
            for v in self._table.given(op.id):
                self._ram[self._table.values[v].storage] = v
        return self._finish(start_ram)

    def _finish(self, start_ram: list[int]) -> Schedule | None:
        self._free_dead()
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

    def _free_dead(self) -> None:
        """Free what nobody needs any more; what flash must have at the end is paged out first."""
        for storage, v in sorted(self._ram.items()):
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
        stay = set(op.touches) | self._kept
        victims = sorted(
            (storage for storage in self._ram if storage not in stay),
            key=lambda storage: (self._next_use(storage), storage),
        )
        while self._used + coming > self._budget.ram_bytes:
            if not victims:
                return False
            self._evict(victims.pop())
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
