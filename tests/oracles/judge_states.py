"""What can be done from a judge state: the exact oracle's states and arcs.

A state is what happened so far: the set of ops that ran, the version of every storage in RAM, the
version of every storage in flash, and the random ops whose generator state is still held. An arc
runs one op, together with the transfers and frees just before it. That loses nothing: in energy,
and in time while transfers take none or take the program's own, a free can be put off until the
memory is needed, a page_out until its copy in RAM is lost, a page_in until its storage is touched.
(`naive_least_energy` walks over single instructions instead; a test compares the two.)

Rules, versions and costs are written down here anew; nothing is imported from the judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from poet_core.costs import Costs
from poet_core.graph import Op, Role, TrainingGraph
from poet_core.plan import Budget, Do, Instruction

_ABSENT = -1
_START = (("ram",), ("flash",), ("ram", "flash"))


@dataclass(frozen=True, slots=True)
class State:
    start: int  # which choice of the start sets
    done: int  # a bit an op
    held: int  # a bit a random op whose generator state is kept for another run
    ram: tuple[int, ...]  # a version a storage, or _ABSENT
    flash: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Meaning:
    """Document order's versions, found anew: what each op needs and gives, and the last ones."""

    need: tuple[dict[int, int], ...]
    give: tuple[dict[int, int], ...]
    last: tuple[int, ...]
    first: tuple[int, ...]  # before the step: 0, or _ABSENT


def _meaning(graph: TrainingGraph) -> _Meaning:
    first = tuple(0 if s.persistent or s.role is Role.INPUT else _ABSENT for s in graph.storages)
    now = list(first)
    need, give = [], []
    for op in graph.ops:
        need.append({s: now[s] for s in (*op.reads, *op.mutates)})
        for s in (*op.writes, *op.mutates):
            now[s] += 1
        give.append({s: now[s] for s in (*op.writes, *op.mutates)})
    return _Meaning(tuple(need), tuple(give), tuple(now), first)


class Start:
    """One choice of start.ram and start.flash, and what must be right at the end because of it."""

    def __init__(self, graph: TrainingGraph, meaning: _Meaning, ram: set[int], flash: set[int]):
        self.ram, self.flash = ram, flash
        self.stay = ram | {s.id for s in graph.storages if s.result and s.size_bytes}
        last = {s: meaning.last[s] for s in self.stay | flash}
        last |= {
            s.id: meaning.last[s.id]
            for s in graph.storages
            if not s.size_bytes and (s.persistent or s.result)
        }
        self.wanted_at_end = frozenset(last.items())


class Rules:
    """The arcs of one problem, from every choice of the start."""

    def __init__(
        self,
        graph: TrainingGraph,
        costs: Costs,
        budget: Budget,
        given_order: bool,
        page: bool,
        rematerialize: bool,
    ) -> None:
        transfers_take_time = any(costs.page_in_seconds) or any(costs.page_out_seconds)
        assert not (budget.overlap and transfers_take_time), "time must add up"
        assert budget.flash_bytes is None, "flash limits are not modelled"
        assert budget.flash_write_bytes is None, "flash limits are not modelled"
        self.graph, self.budget = graph, budget
        self.given_order, self.page, self.rematerialize = given_order, page, rematerialize
        self.meaning = _meaning(graph)
        self.giver = {
            (s, version): op for op, give in enumerate(self.meaning.give)
            for s, version in give.items()
        }  # fmt: skip
        grain = budget.alignment_bytes
        self.size = [-(-s.size_bytes // grain) * grain for s in graph.storages]
        self.work = [-(-op.workspace_bytes // grain) * grain for op in graph.ops]
        self.state_size = -(-graph.rng_state_bytes // grain) * grain
        self.room = budget.ram_bytes - budget.reserved_bytes
        idle = costs.idle_watts
        self.op_cost = _priced(costs.op_joules, costs.op_seconds, idle)
        self.in_cost = _priced(costs.page_in_joules, costs.page_in_seconds, idle)
        self.out_cost = _priced(costs.page_out_joules, costs.page_out_seconds, idle)
        self.everything = (1 << len(graph.ops)) - 1
        self.starts = list(self._all_starts())
        self.wanted_when: dict[tuple[int, int, int], frozenset[tuple[int, int]]] = {}

    def _all_starts(self) -> Iterator[Start]:
        movable = [s.id for s in self.graph.storages if s.persistent and s.size_bytes]
        for places in product(_START if self.page else _START[:1], repeat=len(movable)):
            placed = list(zip(movable, places, strict=True))
            ram = {s for s, place in placed if "ram" in place}
            flash = {s for s, place in placed if "flash" in place}
            yield Start(self.graph, self.meaning, ram, flash)

    def first_state(self, number: int) -> State:
        start = self.starts[number]
        ram = tuple(
            version if not s.persistent or not s.size_bytes or s.id in start.ram else _ABSENT
            for s, version in zip(self.graph.storages, self.meaning.first, strict=True)
        )
        flash = tuple(0 if s.id in start.flash else _ABSENT for s in self.graph.storages)
        return State(number, 0, 0, ram, flash)

    def seconds_left(self, state: State) -> float:
        return sum(cost[1] for op, cost in enumerate(self.op_cost) if not state.done >> op & 1)

    def least_left(self, state: State) -> float:
        """What every way to the end costs at least (consistent, so A* settles a state once).

        Every op that did not run will; every version that is wanted and was lost comes back by a
        page_in or by another run of the op that gives it, and one run may bring back several.
        """
        start = self.starts[state.start]
        last = self.meaning.last
        left = 0.0
        wanted: set[tuple[int, int]] = set()
        for op, need in enumerate(self.meaning.need):
            if not state.done >> op & 1:
                left += self.op_cost[op][0]
                wanted.update(need.items())
        for s in start.flash:
            if state.flash[s] != last[s]:
                left += self.out_cost[s][0]
        wanted.update((s, last[s]) for s in start.stay)
        by_run: dict[int, float] = {}
        for s, version in wanted:
            if state.ram[s] == version:
                continue
            giver = self.giver.get((s, version))
            if giver is None:
                left += self.in_cost[s][0]
            elif state.done >> giver & 1:
                least = min(self.in_cost[s][0], self.op_cost[giver][0])
                by_run[giver] = max(by_run.get(giver, 0.0), least)
        return left + sum(by_run.values())

    def _wanted(self, start: int, done: int, held: int) -> frozenset[tuple[int, int]]:
        """Versions that somebody may still want: an op that did not run, the end of the step, or
        another run of an op that gives such a version. Holding any other is pointless."""
        key = (start, done, held)
        if key not in self.wanted_when:
            wanted = set(self.starts[start].wanted_at_end)
            for op, need in enumerate(self.meaning.need):
                if not done >> op & 1:
                    wanted.update(need.items())
            pending = list(wanted)
            while pending:
                giver = self.giver.get(pending.pop())
                if giver is None or not done >> giver & 1:
                    continue
                again = self.graph.ops[giver]
                held_back = again.random and not held >> giver & 1
                if again.recomputable and self.rematerialize and not held_back:
                    more = self.meaning.need[giver].items() - wanted
                    wanted |= more
                    pending += more
            self.wanted_when[key] = frozenset(wanted)
        return self.wanted_when[key]

    def bytes_of(self, ram: tuple[int, ...]) -> int:
        return sum(size for size, version in zip(self.size, ram, strict=True) if version >= 0)

    def arcs(
        self, state: State
    ) -> Iterator[tuple[float, float, State | int, tuple[Instruction, ...]]]:
        if state.done == self.everything and not state.held:
            yield from self._endings(state)
        next_first = next((op.id for op in self.graph.ops if not state.done >> op.id & 1), None)
        next_random = next(
            (op.id for op in self.graph.ops if op.random and not state.done >> op.id & 1), None
        )
        for op in self.graph.ops:
            first = not state.done >> op.id & 1
            if first:
                if self.given_order and op.id != next_first:
                    continue
                if op.random and op.id != next_random:
                    continue
                yield from self._runs(state, op, held_after=state.held, holds=False)
                if op.random and op.recomputable and self.rematerialize:
                    held = state.held | 1 << op.id
                    yield from self._runs(state, op, held_after=held, holds=True)
            elif op.recomputable and self.rematerialize:
                if not self._brings_something(state, op):
                    continue
                if not op.random:
                    yield from self._runs(state, op, held_after=state.held, holds=False)
                elif state.held >> op.id & 1:
                    yield from self._runs(state, op, held_after=state.held, holds=False)
                    yield from self._runs(
                        state, op, held_after=state.held & ~(1 << op.id), holds=False
                    )

    def _brings_something(self, state: State, op: Op) -> bool:
        """Whether running `op` again gives a wanted version that RAM does not hold."""
        wanted = self._wanted(state.start, state.done, state.held)
        return any(
            state.ram[s] != version and (s, version) in wanted
            for s, version in self.meaning.give[op.id].items()
        )

    def _runs(
        self, state: State, op: Op, *, held_after: int, holds: bool
    ) -> Iterator[tuple[float, float, State, tuple[Instruction, ...]]]:
        """Every way to run `op` now: what is freed, and what of it is saved to flash first."""
        need = self.meaning.need[op.id]
        ram = state.ram
        wanted = self._wanted(state.start, state.done | 1 << op.id, held_after)
        lost: set[int] = set()  # copies that do not survive whatever we choose
        fetched: list[int] = []
        for storage, version in need.items():
            if ram[storage] == version:
                continue
            if state.flash[storage] != version:
                return
            if ram[storage] >= 0:
                lost.add(storage)
            fetched.append(storage)
        lost.update(s for s in op.writes if ram[s] >= 0)
        lost.update(
            s for s, version in enumerate(ram)
            if version >= 0 and s not in need and (s, version) not in wanted
        )  # fmt: skip
        changed = [s for s in op.mutates if ram[s] == need[s] and s not in fetched]
        fixed = sum(self.size[s] for s in (*need, *op.writes)) + self.work[op.id]
        fixed += self.state_size * (state.held | (held_after if holds else 0)).bit_count()
        others = [
            s for s, version in enumerate(ram)
            if version >= 0 and s not in need and s not in lost and self.size[s]
        ]  # fmt: skip
        excess = fixed + sum(self.size[s] for s in others) - self.room
        for freed in _least_sets([(s, self.size[s]) for s in others], excess):
            for out, flash, spent in self._savings(
                state, wanted, [*lost, *freed], changed, fetched
            ):
                yield self._arc(
                    state, op, held_after, wanted, (*lost, *freed), fetched, out, flash, spent
                )

    def _savings(
        self,
        state: State,
        wanted: frozenset[tuple[int, int]],
        leaving: list[int],
        changed: list[int],
        fetched: list[int],
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], float]]:
        """Which of the copies that are about to be lost go to flash first."""
        worth = [
            s for s in (*leaving, *changed)
            if self.page and self.size[s] and s not in fetched
            and state.flash[s] != state.ram[s] and (s, state.ram[s]) in wanted
        ]  # fmt: skip
        for number in range(len(worth) + 1):
            for chosen in combinations(worth, number):
                flash = list(state.flash)
                for s in chosen:
                    flash[s] = state.ram[s]
                yield chosen, tuple(flash), sum(self.out_cost[s][0] for s in chosen)

    def _arc(
        self,
        state: State,
        op: Op,
        held: int,
        wanted: frozenset[tuple[int, int]],
        gone: tuple[int, ...],
        fetched: list[int],
        out: tuple[int, ...],
        flash: tuple[int, ...],
        energy: float,
    ) -> tuple[float, float, State, tuple[Instruction, ...]]:
        instructions = [Instruction(Do.PAGE_OUT, s) for s in out]
        instructions += [Instruction(Do.FREE, s) for s in gone if self.size[s]]
        instructions += [Instruction(Do.PAGE_IN, s) for s in fetched]
        instructions.append(Instruction(Do.COMPUTE, op.id))
        ram = list(state.ram)
        for s in gone:
            if self.size[s]:
                ram[s] = _ABSENT
        for s in fetched:
            ram[s] = flash[s]
        for s, version in self.meaning.give[op.id].items():
            ram[s] = version
        for s, version in enumerate(ram):
            if version >= 0 and self.size[s] and (s, version) not in wanted:
                instructions.append(Instruction(Do.FREE, s))
                ram[s] = _ABSENT
        kept = tuple(
            version if (s, version) in wanted else _ABSENT for s, version in enumerate(flash)
        )
        energy += self.op_cost[op.id][0] + sum(self.in_cost[s][0] for s in fetched)
        seconds = self.op_cost[op.id][1]
        seconds += sum(self.in_cost[s][1] for s in fetched)
        seconds += sum(self.out_cost[s][1] for s in out)
        after = State(state.start, state.done | 1 << op.id, held, tuple(ram), kept)
        return energy, seconds, after, tuple(instructions)

    def _endings(self, state: State) -> Iterator[tuple[float, float, int, tuple[Instruction, ...]]]:
        """The one way to close the step from here, if there is one."""
        last, start = self.meaning.last, self.starts[state.start]
        energy = seconds = 0.0
        saves, frees, fetches = [], [], []
        for item in self.graph.storages:
            s = item.id
            version = state.ram[s]
            if not item.size_bytes:
                if (item.persistent or item.result) and version != last[s]:
                    return
                continue
            in_flash = state.flash[s] == last[s]
            if s in start.flash and not in_flash:
                if version != last[s]:
                    return
                saves.append(s)
                energy, seconds = energy + self.out_cost[s][0], seconds + self.out_cost[s][1]
            if version >= 0 and (s not in start.stay or version != last[s]):
                frees.append(s)
            if s in start.stay and version != last[s]:
                if not in_flash:
                    return
                fetches.append(s)
                energy, seconds = energy + self.in_cost[s][0], seconds + self.in_cost[s][1]
        if sum(self.size[s] for s in start.stay) > self.room:
            return
        yield energy, seconds, state.start, (
            *(Instruction(Do.PAGE_OUT, s) for s in saves),
            *(Instruction(Do.FREE, s) for s in frees),
            *(Instruction(Do.PAGE_IN, s) for s in fetches),
        )  # fmt: skip


def _priced(
    joules: tuple[float, ...], seconds: tuple[float, ...], watts: float
) -> list[tuple[float, float]]:
    return [(energy + watts * time, time) for energy, time in zip(joules, seconds, strict=True)]


def _least_sets(items: list[tuple[int, int]], excess: int) -> Iterator[tuple[int, ...]]:
    """Every inclusion-minimal set of items whose bytes make up for `excess`."""
    if excess <= 0:
        yield ()
        return
    found: list[frozenset[int]] = []
    for number in range(1, len(items) + 1):
        for chosen in combinations(items, number):
            names = frozenset(name for name, _ in chosen)
            if sum(size for _, size in chosen) >= excess and not any(
                smaller <= names for smaller in found
            ):
                found.append(names)
                yield tuple(sorted(names))
