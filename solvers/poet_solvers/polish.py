"""Small repairs of a schedule that cannot make it worse: each is kept only where the judge agrees.

Two kinds: a storage that leaves RAM and comes back although it could have stayed (stays), and a
second run that nobody needs (goes). They help what was not solved to the end: an evict schedule, a
time-limited answer, an answer for groups of ops.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from poet_core.errors import PlanError
from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate

# Each try costs one judgement (milliseconds): a limit, so that polishing stays a small part of all.
_MOST_TRIES = 300


def polish(
    problem: Problem, schedule: Schedule, *, cancel: threading.Event | None = None
) -> Schedule:
    """`schedule`, which the judge must accept, or a cheaper one made of it."""
    polisher = _Polisher(problem, schedule, cancel or threading.Event())
    while polisher.improve():
        pass
    return polisher.schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repair:
    """Positions to leave out, and the storage that begins and ends in RAM instead, if any."""

    saving: float
    without: frozenset[int]
    into_start_ram: int | None = None


class _Polisher:
    """Holds the best schedule so far and its judgement."""

    def __init__(self, problem: Problem, schedule: Schedule, cancel: threading.Event) -> None:
        self._problem, self._cancel = problem, cancel
        self._energy = problem.objective is Objective.ENERGY
        self._rounded = [problem.budget.rounded(s.size_bytes) for s in problem.graph.storages]
        self._tries = 0
        self.schedule = schedule
        self._judgement = self._judge(schedule)

    def improve(self) -> bool:
        """Apply the first repair that helps; False where none does."""
        for repair in sorted(self._repairs(), key=lambda item: -item.saving):
            if self._tries >= _MOST_TRIES or self._cancel.is_set():
                return False
            self._tries += 1
            candidate = self._apply(repair)
            try:
                judgement = self._judge(candidate)
            except PlanError:
                continue
            if self._cost(judgement) < self._cost(self._judgement):
                self.schedule, self._judgement = candidate, judgement
                return True
        return False

    def _judge(self, schedule: Schedule) -> Judgement:
        problem = self._problem
        return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)

    def _cost(self, judgement: Judgement) -> float:
        return judgement.energy_joules if self._energy else judgement.step_seconds

    def _repairs(self) -> Iterator[_Repair]:
        yield from self._useless_runs()
        transfers: dict[int, list[int]] = {}
        for position, instruction in enumerate(self.schedule.instructions):
            if instruction.do in (Do.FREE, Do.PAGE_IN):
                transfers.setdefault(instruction.target, []).append(position)
        for storage, positions in transfers.items():
            yield from self._stays(storage, positions)
            yield from self._starts_in_ram(storage, positions)

    def _stays(self, storage: int, positions: list[int]) -> Iterator[_Repair]:
        """A free followed by a page_in: leave out both where there is room in between."""
        instructions = self.schedule.instructions
        for freed, back in pairwise(positions):
            if instructions[freed].do is Do.FREE and instructions[back].do is Do.PAGE_IN:
                produced = any(
                    storage in self._problem.graph.versions.gives[i.target]
                    for i in instructions[freed:back]
                    if i.do is Do.COMPUTE
                )
                if not produced and self._has_room(storage, freed, back):
                    yield _Repair(saving=self._in_cost(storage), without=frozenset({freed, back}))

    def _starts_in_ram(self, storage: int, positions: list[int]) -> Iterator[_Repair]:
        """A persistent storage that begins and ends in flash only: keep it in RAM around the end
        of the step."""
        if storage in self.schedule.start_ram or storage not in self.schedule.start_flash:
            return
        instructions = self.schedule.instructions
        first, last = positions[0], positions[-1]
        if instructions[first].do is not Do.PAGE_IN:
            return
        without = {first}
        if instructions[last].do is Do.FREE:
            without.add(last)
            if not self._has_room(storage, last, len(instructions)):
                return
        if self._has_room(storage, 0, first):
            yield _Repair(
                saving=self._in_cost(storage), without=frozenset(without), into_start_ram=storage
            )

    def _useless_runs(self) -> Iterator[_Repair]:
        """Second runs together with the frees of what they give."""
        graph = self._problem.graph
        seen: set[int] = set()
        for position, instruction in enumerate(self.schedule.instructions):
            if instruction.do is not Do.COMPUTE:
                continue
            op_id = instruction.target
            if op_id in seen:
                frees = {
                    self._next_about(storage, position)
                    for storage in graph.ops[op_id].writes
                    if graph.storages[storage].size_bytes
                }
                with_frees = frozenset({position} | {p for p in frees if p is not None})
                # Without its frees where what it gives was in RAM already.
                for without in (with_frees, frozenset({position})):
                    yield _Repair(saving=self._run_cost(op_id), without=without)
            seen.add(op_id)

    def _next_about(self, storage: int, position: int) -> int | None:
        """The next transfer or free of a storage, if it is a free."""
        for later in range(position + 1, len(self.schedule.instructions)):
            instruction = self.schedule.instructions[later]
            if instruction.do is not Do.COMPUTE and instruction.target == storage:
                return later if instruction.do is Do.FREE else None
        return None

    def _has_room(self, storage: int, begin: int, end: int) -> bool:
        memory = self._judgement.memory_bytes[begin:end]
        peak = max(memory, default=0)
        if begin == 0:
            peak = max(peak, self._judgement.initial_bytes)
        return peak + self._rounded[storage] <= self._problem.budget.ram_bytes

    def _in_cost(self, storage: int) -> float:
        costs = self._problem.costs
        return (costs.page_in_joules if self._energy else costs.page_in_seconds)[storage]

    def _run_cost(self, op_id: int) -> float:
        costs = self._problem.costs
        return (costs.op_joules if self._energy else costs.op_seconds)[op_id]

    def _apply(self, repair: _Repair) -> Schedule:
        schedule, storage = self.schedule, repair.into_start_ram
        kept = [
            item for place, item in enumerate(schedule.instructions) if place not in repair.without
        ]
        start_ram, start_flash = schedule.start_ram, schedule.start_flash
        if storage is not None:
            start_ram = (*start_ram, storage)
            if not self._reads_first_copy(storage, kept):
                start_flash = tuple(item for item in start_flash if item != storage)
        return Schedule(
            start_ram=start_ram,
            start_flash=start_flash,
            instructions=tuple(_without_useless_page_outs(kept, frozenset(start_flash))),
        )

    def _reads_first_copy(self, storage: int, instructions: list[Instruction]) -> bool:
        for instruction in instructions:
            if instruction.target == storage and instruction.do is Do.PAGE_IN:
                return True
            if instruction.target == storage and instruction.do is Do.PAGE_OUT:
                return False
        return False


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
