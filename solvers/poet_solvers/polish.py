"""Small repairs of a schedule that cannot make it worse: each is kept only where the judge agrees.

Two kinds: a storage that leaves RAM and comes back although it could have stayed (stays), and a
second run that nobody needs (goes). They help what was not solved to the end: an evict schedule, a
time-limited answer.

All repairs that fit beside each other are made at once and judged at once, then again until none is
left; only where the judge refuses are they halved. So it costs a few judgements, however long the
schedule is, and never more than a given number.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from poet_core.errors import PlanError
from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_solvers.room import Room

# Judgements at most: a limit, so that polishing stays a small part of all.
_MOST_TRIES = 60


def _never() -> bool:
    return False


def polish(
    problem: Problem,
    schedule: Schedule,
    *,
    cancel: threading.Event | None = None,
    stop: Callable[[], bool] = _never,
) -> Schedule:
    """`schedule`, which the judge must accept, or a cheaper one made of it.

    Once `cancel` is set or `stop` says so it ends after the judgement that it is at.
    """
    polisher = _Polisher(
        problem, schedule, lambda: stop() or (cancel is not None and cancel.is_set())
    )
    while polisher.improve():
        pass
    return polisher.schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repair:
    """Positions to leave out; the storage that begins and ends in RAM instead, if any; and where a
    storage is held that was not (its bytes and the stretches)."""

    saving: float
    without: frozenset[int]
    into_start_ram: int | None = None
    size_bytes: int = 0
    held: tuple[tuple[int, int], ...] = ()


class _Polisher:
    """Holds the best schedule so far and its judgement."""

    def __init__(self, problem: Problem, schedule: Schedule, stop: Callable[[], bool]) -> None:
        self._problem, self._stop = problem, stop
        self._energy = problem.objective is Objective.ENERGY
        self._rounded = [problem.budget.rounded(s.size_bytes) for s in problem.graph.storages]
        self._tries = 0
        self.schedule = schedule
        self._judgement = self._judge(schedule)

    def improve(self) -> bool:
        """Make all repairs that help, of those that this schedule shows; False where none does."""
        base, before = self.schedule, self._cost(self._judgement)
        kept: list[_Repair] = []
        parts = [self._beside_each_other()]
        while parts:
            part = parts.pop()
            if not part or self._tries >= _MOST_TRIES or self._stop():
                continue
            self._tries += 1
            candidate = _repaired(base, [*kept, *part])
            judgement = self._judgement_of(candidate)
            if judgement is not None and self._cost(judgement) < self._cost(self._judgement):
                self.schedule, self._judgement = candidate, judgement
                kept += part
            elif len(part) > 1:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
        return self._cost(self._judgement) < before

    def _beside_each_other(self) -> list[_Repair]:
        """Repairs that fit together, what saves most first."""
        room = Room(self._judgement, self._problem.budget.ram_bytes)
        touched: set[int] = set()
        chosen: list[_Repair] = []
        for repair in sorted(self._repairs(), key=lambda item: -item.saving):
            if touched & repair.without or not room.fits(repair.size_bytes, repair.held):
                continue
            room.take(repair.size_bytes, repair.held)
            touched |= repair.without
            chosen.append(repair)
        return chosen

    def _judge(self, schedule: Schedule) -> Judgement:
        problem = self._problem
        return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)

    def _judgement_of(self, schedule: Schedule) -> Judgement | None:
        try:
            return self._judge(schedule)
        except PlanError:
            return None

    def _cost(self, judgement: Judgement) -> float:
        return judgement.energy_joules if self._energy else judgement.step_seconds

    def _repairs(self) -> Iterator[_Repair]:
        events = self._events()
        yield from self._useless_runs(events)
        transfers: dict[int, list[int]] = {}
        for position, instruction in enumerate(self.schedule.instructions):
            if instruction.do in (Do.FREE, Do.PAGE_IN):
                transfers.setdefault(instruction.target, []).append(position)
        in_ram, in_flash = set(self.schedule.start_ram), set(self.schedule.start_flash)
        for storage, positions in transfers.items():
            yield from self._stays(storage, positions, events[storage])
            if storage in in_flash - in_ram:
                yield from self._starts_in_ram(storage, positions)

    def _events(self) -> dict[int, list[int]]:
        """By storage: the positions of the instructions that touch it."""
        events: dict[int, list[int]] = {}
        ops = self._problem.graph.ops
        for position, instruction in enumerate(self.schedule.instructions):
            compute = instruction.do is Do.COMPUTE
            touched = ops[instruction.target].touches if compute else (instruction.target,)
            for storage in touched:
                events.setdefault(storage, []).append(position)
        return events

    def _stays(self, storage: int, positions: list[int], events: list[int]) -> Iterator[_Repair]:
        """A free followed by a page_in: leave out both where there is room in between."""
        instructions = self.schedule.instructions
        for freed, back in pairwise(positions):
            if instructions[freed].do is Do.FREE and instructions[back].do is Do.PAGE_IN:
                if events[bisect_right(events, freed)] != back:
                    continue  # it is made again in between
                yield _Repair(
                    saving=self._in_cost(storage),
                    without=frozenset({freed, back}),
                    size_bytes=self._rounded[storage],
                    held=((freed, back),),
                )

    def _starts_in_ram(self, storage: int, positions: list[int]) -> Iterator[_Repair]:
        """A persistent storage that begins and ends in flash only: keep it in RAM around the end
        of the step."""
        instructions = self.schedule.instructions
        first, last = positions[0], positions[-1]
        if instructions[first].do is not Do.PAGE_IN:
            return
        freed_last = instructions[last].do is Do.FREE
        yield _Repair(
            saving=self._in_cost(storage),
            without=frozenset({first, last} if freed_last else {first}),
            into_start_ram=storage,
            size_bytes=self._rounded[storage],
            held=((-1, first), (last, len(instructions))) if freed_last else ((-1, first),),
        )

    def _useless_runs(self, events: dict[int, list[int]]) -> Iterator[_Repair]:
        """Second runs whose outputs were in RAM already or are freed before anybody reads them."""
        graph, instructions = self._problem.graph, self.schedule.instructions
        ran: set[int] = set()
        for position, instruction in enumerate(instructions):
            if instruction.do is not Do.COMPUTE:
                continue
            op_id = instruction.target
            if op_id in ran:
                without = {position}
                for storage in graph.ops[op_id].writes:
                    about = events[storage]
                    place = bisect_right(about, position)
                    before = about[place - 2] if place >= 2 else None
                    if before is not None and instructions[before].do is not Do.FREE:
                        continue  # it was in RAM, and still is without this run
                    after = about[place] if place < len(about) else None
                    if after is None or instructions[after].do is not Do.FREE:
                        break  # somebody reads it
                    without.add(after)
                else:
                    yield _Repair(saving=self._run_cost(op_id), without=frozenset(without))
            ran.add(op_id)

    def _in_cost(self, storage: int) -> float:
        costs = self._problem.costs
        return (costs.page_in_joules if self._energy else costs.page_in_seconds)[storage]

    def _run_cost(self, op_id: int) -> float:
        costs = self._problem.costs
        return (costs.op_joules if self._energy else costs.op_seconds)[op_id]


def _repaired(schedule: Schedule, repairs: list[_Repair]) -> Schedule:
    """A schedule with repairs made."""
    without = frozenset[int]().union(*(repair.without for repair in repairs))
    kept = [item for place, item in enumerate(schedule.instructions) if place not in without]
    comes = {one.into_start_ram for one in repairs if one.into_start_ram is not None}
    first: dict[int, Do] = {}
    for item in kept:
        if item.do in (Do.PAGE_IN, Do.PAGE_OUT):
            first.setdefault(item.target, item.do)
    start_flash = tuple(
        storage
        for storage in schedule.start_flash
        if storage not in comes or first.get(storage) is Do.PAGE_IN  # the first copy is read still
    )
    return Schedule(
        start_ram=(*schedule.start_ram, *sorted(comes)),
        start_flash=start_flash,
        instructions=tuple(_without_useless_page_outs(kept, frozenset(start_flash))),
    )


def _without_useless_page_outs(
    instructions: list[Instruction], in_flash_at_end: frozenset[int]
) -> list[Instruction]:
    """Leave out each page_out that is neither read nor the copy that must be there at the end."""
    wanted = set(in_flash_at_end)
    kept: list[Instruction] = []
    for instruction in reversed(instructions):
        storage = instruction.target
        if instruction.do is Do.PAGE_IN:
            wanted.add(storage)
        elif instruction.do is Do.PAGE_OUT:
            if storage not in wanted:
                continue
            wanted.discard(storage)
        kept.append(instruction)
    return kept[::-1]
