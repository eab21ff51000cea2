"""The independent check of moves: they are replayed, one copy after the other.

Everything that begins at an instruction is either born there (paged in, written, scratch) or was
moved there from where it lay; a copy may only go to bytes where nobody lies at that moment; and it
comes from where the block was. Shares nothing with how moves are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NoReturn

from poet_core.errors import PlanningError
from poet_core.graph import TrainingGraph
from poet_core.plan import Do, Schedule
from poet_solvers.addresses.blocks import Addresses, Holds, Move, Placed

_Name = tuple[Holds, int]
_Stays = dict[tuple[_Name, int], Placed]


def check_moves(graph: TrainingGraph, addresses: Addresses, schedule: Schedule) -> None:
    """Raise PlanningError (`addresses_move`) where bytes are not where an entry says, or a copy
    destroys others."""
    begins: _Stays = {((item.holds, item.target), item.first): item for item in addresses.placed}
    ends: _Stays = {((item.holds, item.target), item.last): item for item in addresses.placed}
    moved_to: set[tuple[_Name, int]] = set()
    before = -1
    for position, moves in groupby(addresses.moves, key=lambda move: move.before):
        if not before < position <= len(schedule.instructions):
            _refuse(f"moves before instruction {position} come after those before {before}")
        before = position
        if _is_free(schedule, position):
            _refuse(f"a move stands before the free {position}, whose bytes still live")
        for name in _replay(list(moves), position, addresses.placed, begins, ends, schedule):
            moved_to.add((name, position))
    for (name, first), item in begins.items():
        if (name, first) not in moved_to and not _is_born(graph, schedule, item, ends):
            _refuse(f"{item.holds} {item.target} changes its address at instruction {first} "
                    "without a move")  # fmt: skip


def _replay(
    moves: Sequence[Move],
    position: int,
    placed: Sequence[Placed],
    begins: _Stays,
    ends: _Stays,
    schedule: Schedule,
) -> list[_Name]:
    """Carry out the moves before one instruction; the names of what moved."""
    at_end = position == len(schedule.instructions)
    where = {
        (item.holds, item.target): (item.offset_bytes, item.size_bytes)
        for item in placed
        if item.first < position and (item.last >= position or (at_end and item.last >= position - 1))
    }  # fmt: skip
    names = {(move.holds, move.target) for move in moves}
    for name in names:
        item = ends.get((name, position - 1))
        if item is None:
            _refuse(f"{name[0]} {name[1]} moves before instruction {position} and has no entry "
                    "that ends there")  # fmt: skip
        where[name] = (item.offset_bytes, item.size_bytes)
    for move in moves:
        name = (move.holds, move.target)
        if where[name] != (move.from_bytes, move.size_bytes):
            _refuse(f"{move.holds} {move.target} is moved from {move.from_bytes} before "
                    f"instruction {position} and lies elsewhere")  # fmt: skip
        end = move.to_bytes + move.size_bytes
        for other, (offset, size) in where.items():
            if other != name and offset < end and offset + size > move.to_bytes:
                _refuse(f"the move of {move.holds} {move.target} before instruction {position} "
                        f"destroys {other[0]} {other[1]}")  # fmt: skip
        where[name] = (move.to_bytes, move.size_bytes)
    for name in () if at_end else sorted(names):
        item = begins.get((name, position))
        if item is None or item.offset_bytes != where[name][0]:
            _refuse(f"{name[0]} {name[1]} is moved before instruction {position} to where it has "
                    "no entry")  # fmt: skip
    return sorted(names)


def _is_free(schedule: Schedule, position: int) -> bool:
    instructions = schedule.instructions
    return position < len(instructions) and instructions[position].do is Do.FREE


def _is_born(graph: TrainingGraph, schedule: Schedule, item: Placed, ends: _Stays) -> bool:
    """Whether what begins here needs nothing of what lay in RAM before."""
    if item.first < 0 or item.holds is Holds.WORKSPACE:
        return True
    if item.holds is Holds.GENERATOR:
        return ((item.holds, item.target), item.first - 1) not in ends
    instruction = schedule.instructions[item.first]
    if instruction.do is Do.COMPUTE:
        return item.target in graph.ops[instruction.target].writes
    return instruction.do is Do.PAGE_IN and instruction.target == item.target


def _refuse(why: str) -> NoReturn:
    raise PlanningError(f"Addresses are wrong: {why}.", code="addresses_move")
