"""The independent check of moves: they are replayed, one copy after the other.

Everything that begins at an instruction is either born there (paged in, written, scratch) or was
moved there from where it lay; a copy may only go to bytes where nobody lies at that moment; and it
comes from where the block was. Shares nothing with how moves are found.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from itertools import groupby
from typing import NoReturn

from poet_core.errors import PlanningError
from poet_core.graph import TrainingGraph
from poet_core.plan import Do, Schedule
from poet_solvers.addresses.blocks import Addresses, Holds, Move, Placed

_Name = tuple[Holds, int]
_Place = tuple[_Name, int, int]
"""Whose, from where, how many bytes: one name may have two, the old copy beside the new one."""


def check_moves(graph: TrainingGraph, addresses: Addresses, schedule: Schedule) -> None:
    """Raise PlanningError (`addresses_move`) where bytes are not where an entry says, or a copy
    destroys others."""
    begins = {(item.first, _place(item)) for item in addresses.placed}
    moved_to: set[tuple[int, _Place]] = set()
    before = -1
    for position, moves in groupby(addresses.moves, key=lambda move: move.before):
        if not before < position <= len(schedule.instructions):
            _refuse(f"moves before instruction {position} come after those before {before}")
        before = position
        if _is_free(schedule, position):
            _refuse(f"a move stands before the free {position}, whose bytes still live")
        places = _replay(
            list(moves), addresses.placed, at_end=position == len(schedule.instructions)
        )
        if position < len(schedule.instructions):
            moved_to |= {(position, place) for place in places}
    for position, (name, offset, _) in sorted(moved_to - begins):
        _refuse(f"{name[0]} {name[1]} is moved to {offset} before instruction {position} and has "
                "no entry there")  # fmt: skip
    ends = {(item.holds, item.target, item.last) for item in addresses.placed}
    for item in addresses.placed:
        moved = (item.first, _place(item)) in moved_to
        if not moved and not _is_born(graph, schedule, item, ends):
            _refuse(f"{item.holds} {item.target} begins at instruction {item.first} from nothing")


def _place(item: Placed) -> _Place:
    return (item.holds, item.target), item.offset_bytes, item.size_bytes


def _replay(moves: Sequence[Move], placed: Sequence[Placed], *, at_end: bool) -> list[_Place]:
    """Carry out the moves before one instruction; where what moved lies afterwards."""
    position = moves[0].before
    movers: dict[_Name, _Place] = {}
    for move in moves:
        name = move.holds, move.target
        movers.setdefault(name, (name, move.from_bytes, move.size_bytes))
    live: list[_Place] = []
    for item in placed:
        stays = item.first < position <= item.last
        ends_here = item.first < position == item.last + 1
        if stays or (ends_here and (at_end or _place(item) in movers.values())):
            live.append(_place(item))
    moved: list[_Place] = []
    for move in moves:
        name, end = (move.holds, move.target), move.to_bytes + move.size_bytes
        place = name, move.from_bytes, move.size_bytes
        if place not in live:
            _refuse(f"{move.holds} {move.target} is moved from {move.from_bytes} before "
                    f"instruction {position} and does not live there")  # fmt: skip
        live.remove(place)
        for other, offset, size in live:
            if offset < end and offset + size > move.to_bytes:
                _refuse(f"the move of {move.holds} {move.target} before instruction {position} "
                        f"destroys {other[0]} {other[1]}")  # fmt: skip
        live.append((name, move.to_bytes, move.size_bytes))
        if place in moved:
            moved.remove(place)
        moved.append(live[-1])
    return moved


def _is_free(schedule: Schedule, position: int) -> bool:
    instructions = schedule.instructions
    return position < len(instructions) and instructions[position].do is Do.FREE


def _is_born(
    graph: TrainingGraph, schedule: Schedule, item: Placed, ends: Set[tuple[Holds, int, int]]
) -> bool:
    """Whether what begins here needs nothing of what lay in RAM before."""
    if item.first < 0 or item.holds is Holds.WORKSPACE:
        return True
    if item.holds is Holds.GENERATOR:
        return (item.holds, item.target, item.first - 1) not in ends
    instruction = schedule.instructions[item.first]
    if instruction.do is Do.COMPUTE:
        return item.target in graph.ops[instruction.target].writes
    return instruction.do is Do.PAGE_IN and instruction.target == item.target


def _refuse(why: str) -> NoReturn:
    raise PlanningError(f"Addresses are wrong: {why}.", code="addresses_move")
