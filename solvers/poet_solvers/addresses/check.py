"""The independent check of addresses: it knows the judge's figures and no packing algorithm.

Four things must hold: at each instruction the live bytes are exactly what the judge counted, less
the old copies that an op writes over in their place, so nothing was forgotten; bytes that live at
the same time do not overlap; what changes its address is moved (`check_moves`); a storage of
`start.ram` ends the step at the address where it began. Overlaps are found by sweeping the instructions with
the occupied bytes in a sorted list, which shares nothing with how addresses are chosen.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NoReturn

from poet_core.errors import PlanningError
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Schedule
from poet_core.simulate import Judgement
from poet_solvers.addresses.blocks import Addresses, Holds, Placed
from poet_solvers.addresses.check_moves import check_moves

_Moment = tuple[list[Placed], list[Placed]]


def check_addresses(
    graph: TrainingGraph,
    addresses: Addresses,
    schedule: Schedule,
    budget: Budget,
    judgement: Judgement,
) -> None:
    """Raise PlanningError (`addresses_overlap`, `addresses_outside`, `addresses_incomplete`,
    `addresses_move`, `addresses_not_back`) where a device could not run `schedule` at these addresses."""
    moments = _moments(addresses.placed, len(schedule.instructions))
    for item in addresses.placed:
        misaligned = item.offset_bytes % budget.alignment_bytes
        if item.offset_bytes < 0 or _end(item) > addresses.arena_bytes or misaligned:
            _refuse("outside", f"{_words(item)} is not aligned inside the arena of "
                    f"{addresses.arena_bytes} bytes")  # fmt: skip
    for move in addresses.moves:
        end = move.to_bytes + move.size_bytes
        if move.to_bytes < 0 or end > addresses.arena_bytes:
            _refuse("outside", f"a move before instruction {move.before} ends at {end} in an arena "
                    f"of {addresses.arena_bytes} bytes")  # fmt: skip
        if move.to_bytes % budget.alignment_bytes:
            _refuse("outside", f"a move before instruction {move.before} goes to {move.to_bytes}, "
                    "which is not aligned")  # fmt: skip
    counted = [judgement.initial_bytes, *judgement.memory_bytes]
    for position, twice in _written_over(graph, addresses.placed, schedule, budget):
        counted[position + 1] -= twice
    live: list[tuple[int, int]] = []
    live_bytes = 0
    for position, (moment, judged) in enumerate(zip(moments, counted, strict=True), start=-1):
        ended, begun = moment
        for item in ended:
            live.remove((item.offset_bytes, _end(item)))
            live_bytes -= item.size_bytes
        for item in begun:
            _insert(live, item)
            live_bytes += item.size_bytes
        if live_bytes != judged - budget.reserved_bytes:
            _refuse("incomplete", f"at instruction {position} {live_bytes} bytes have an address "
                    f"and the judge counts {judged - budget.reserved_bytes}")  # fmt: skip
    check_moves(graph, addresses, schedule)
    _check_cycle(addresses, schedule)


def _moments(placed: Iterable[Placed], instructions: int) -> list[_Moment]:
    """By position from -1 up: what has just ended, and what begins."""
    moments: list[_Moment] = [([], []) for _ in range(instructions + 1)]
    for item in placed:
        if not -1 <= item.first <= item.last < instructions or item.size_bytes < 1:
            _refuse("incomplete", f"{_words(item)} is no span of the plan")
        moments[item.first + 1][1].append(item)
        if item.last + 1 < instructions:
            moments[item.last + 2][0].append(item)
    return moments


def _written_over(
    graph: TrainingGraph, placed: Iterable[Placed], schedule: Schedule, budget: Budget
) -> Iterable[tuple[int, int]]:
    """(instruction, bytes) of old copies that an op writes over where they lie: the storage is
    there before and after, and no new span of it begins."""
    items: dict[int, list[Placed]] = {}
    for item in placed:
        if item.holds is Holds.STORAGE:
            items.setdefault(item.target, []).append(item)
    for position, instruction in enumerate(schedule.instructions):
        if instruction.do is not Do.COMPUTE:
            continue
        for storage in graph.ops[instruction.target].writes:
            spans = items.get(storage, ())
            there = any(item.first < position <= item.last for item in spans)
            if there and not any(item.first == position for item in spans):
                yield position, budget.rounded(graph.storages[storage].size_bytes)


def _insert(live: list[tuple[int, int]], item: Placed) -> None:
    at = bisect_left(live, (item.offset_bytes, 0))
    below = at and live[at - 1][1] > item.offset_bytes
    if below or (at < len(live) and live[at][0] < _end(item)):
        _refuse("overlap", f"{_words(item)} overlaps what is there already")
    insort(live, (item.offset_bytes, _end(item)))


def _check_cycle(addresses: Addresses, schedule: Schedule) -> None:
    last_position = len(schedule.instructions) - 1
    storages = [item for item in addresses.placed if item.holds is Holds.STORAGE]
    begins = {item.target: item.offset_bytes for item in storages if item.first == -1}
    at_end = [item for item in storages if item.last == last_position]
    # Of two copies in the last instruction the later one stays.
    at_end.sort(key=lambda item: item.first)
    ends = {item.target: item.offset_bytes for item in at_end}
    for move in addresses.moves:
        if move.before > last_position and move.holds is Holds.STORAGE:
            ends[move.target] = move.to_bytes
    for storage in schedule.start_ram:
        if storage not in begins or ends.get(storage) != begins[storage]:
            _refuse("not_back", f"storage {storage} begins at {begins.get(storage)} and ends at "
                    f"{ends.get(storage)}")  # fmt: skip


def _end(item: Placed) -> int:
    return item.offset_bytes + item.size_bytes


def _words(item: Placed) -> str:
    return (f"{item.holds} {item.target} at {item.offset_bytes} + {item.size_bytes} bytes, "
            f"instructions {item.first} to {item.last},")  # fmt: skip


def _refuse(what: str, why: str) -> NoReturn:
    raise PlanningError(f"Addresses are wrong: {why}.", code=f"addresses_{what}")
