"""Random damage to a case (budget, schedule, what is allowed): one to three small edits.

An edit neither knows nor cares whether the schedule stays valid; that is for the judge and the
interpreter to agree on. Every edit is drawn from the one `random.Random` that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from poet_core.graph import TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Instruction, Schedule
from tests.oracles.interpreter import Figures

_KINDS = tuple(Do)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged; `figures` are those of the valid case that the damage started from."""

    graph: TrainingGraph
    budget: Budget
    schedule: Schedule
    allowed: Allowed
    figures: Figures


def mutant(rng: Random, case: Case) -> Case:
    """`case` with one to three random edits."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if rng.random() < 0.7:
            edit = rng.choice(_PROGRAM_EDITS)
            program = edit(rng, case.graph, list(case.schedule.instructions))
            case = replace(case, schedule=replace(case.schedule, instructions=tuple(program)))
        else:
            case = rng.choice(_OTHER_EDITS)(rng, case)
    return case


_Program = list[Instruction]


def _drop(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        del program[rng.randrange(len(program))]
    return program


def _duplicate(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        program.insert(rng.randint(0, len(program)), rng.choice(program))
    return program


def _swap_neighbours(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if len(program) > 1:
        at = rng.randrange(len(program) - 1)
        program[at], program[at + 1] = program[at + 1], program[at]
    return program


def _swap_any(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        one, two = rng.randrange(len(program)), rng.randrange(len(program))
        program[one], program[two] = program[two], program[one]
    return program


def _move(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        moved = program.pop(rng.randrange(len(program)))
        program.insert(rng.randint(0, len(program)), moved)
    return program


def _retarget(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        at = rng.randrange(len(program))
        program[at] = _any_instruction(rng, graph, program[at].do)
    return program


def _change_kind(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    if program:
        at = rng.randrange(len(program))
        program[at] = Instruction(rng.choice(_KINDS), program[at].target)
    return program


def _insert(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    at = rng.randint(0, len(program))
    program.insert(at, _any_instruction(rng, graph, rng.choice(_KINDS)))
    return program


def _insert_trip(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    """A round trip to flash: out, free and, somewhere later, in again."""
    storage = rng.randrange(len(graph.storages))
    at = rng.randint(0, len(program))
    program[at:at] = [Instruction(Do.PAGE_OUT, storage), Instruction(Do.FREE, storage)]
    program.insert(rng.randint(at + 2, len(program)), Instruction(Do.PAGE_IN, storage))
    return program


def _insert_recompute(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    """Free what an op wrote, and run the op again somewhere later."""
    op = rng.choice(graph.ops)
    at = rng.randint(0, len(program))
    if op.writes:
        program.insert(at, Instruction(Do.FREE, rng.choice(op.writes)))
    program.insert(rng.randint(min(at + 1, len(program)), len(program)),
                   Instruction(Do.COMPUTE, op.id))  # fmt: skip
    return program


def _reverse_part(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    first, last = sorted((rng.randint(0, len(program)), rng.randint(0, len(program))))
    program[first:last] = program[first:last][::-1]
    return program


def _drop_target(rng: Random, graph: TrainingGraph, program: _Program) -> _Program:
    """Every instruction of one kind on one target goes."""
    gone = rng.choice(program) if program else None
    return [one for one in program if one != gone]


def _any_instruction(rng: Random, graph: TrainingGraph, do: Do) -> Instruction:
    known = len(graph.ops if do is Do.COMPUTE else graph.storages)
    if rng.random() < 0.01:
        return Instruction(do, rng.choice((-1, known, known + 7)))
    return Instruction(do, rng.randrange(known))


def _start(rng: Random, case: Case) -> Case:
    """A storage enters or leaves start.ram or start.flash, or is named there twice."""
    storage = rng.randrange(-1 if rng.random() < 0.02 else 0, len(case.graph.storages))
    persistent = [s.id for s in case.graph.storages if s.persistent]
    if persistent and rng.random() < 0.9:
        storage = rng.choice(persistent)
    schedule = case.schedule
    place = rng.choice(("ram", "flash"))
    names = schedule.start_ram if place == "ram" else schedule.start_flash
    if storage in names and rng.random() < 0.9:
        names = tuple(name for name in names if name != storage)
    else:
        names = (*names, storage)
    changed = replace(schedule, start_ram=names) if place == "ram" else replace(
        schedule, start_flash=names)  # fmt: skip
    return replace(case, schedule=changed)


def _start_moves(rng: Random, case: Case) -> Case:
    """A persistent storage begins at the other place and is brought over at once."""
    schedule = case.schedule
    both = set(schedule.start_ram) & set(schedule.start_flash)
    if both:
        storage = rng.choice(sorted(both))
        left = tuple(name for name in schedule.start_ram if name != storage)
        program = (Instruction(Do.PAGE_IN, storage), *schedule.instructions)
        if rng.random() < 0.8:
            program = (*program, Instruction(Do.FREE, storage))
        return replace(case, schedule=replace(schedule, start_ram=left, instructions=program))
    return _start(rng, case)


def _limits(rng: Random, case: Case) -> Case:
    """A limit of the budget goes to the figure of the valid case, just under it, or over it."""
    figures, budget = case.figures, case.budget
    near = rng.choice((-1, 0, 0, 1))
    which = rng.randrange(5)
    if which == 0:
        budget = replace(budget, ram_bytes=max(0, figures.peak_bytes + near))
    elif which == 1:
        budget = replace(budget, flash_bytes=max(0, figures.flash_peak_bytes + near))
    elif which == 2:
        budget = replace(budget, flash_write_bytes=max(0, figures.flash_bytes_written + near))
    elif which == 3:
        budget = replace(budget, step_seconds=max(0.0, figures.step_seconds + near / 8))
    else:
        budget = replace(budget, energy_joules=max(0.0, figures.energy_joules + near / 8))
    return replace(case, budget=budget)


def _conditions(rng: Random, case: Case) -> Case:
    """Overlap, alignment or reserved bytes change."""
    which = rng.randrange(3)
    budget = case.budget
    if which == 0:
        budget = replace(budget, overlap=not budget.overlap)
    elif which == 1:
        budget = replace(budget, alignment_bytes=rng.randint(1, 4))
    else:
        budget = replace(budget, reserved_bytes=max(0, budget.reserved_bytes + rng.choice((-1, 1))))
    return replace(case, budget=budget)


def _allowed(rng: Random, case: Case) -> Case:
    name = rng.choice(("page", "rematerialize", "reorder"))
    return replace(case, allowed=replace(case.allowed, **{name: False}))


_PROGRAM_EDITS: tuple[Callable[[Random, TrainingGraph, _Program], _Program], ...] = (
    _drop, _duplicate, _swap_neighbours, _swap_neighbours, _swap_any, _move, _move, _retarget,
    _change_kind, _insert, _insert_trip, _insert_recompute, _reverse_part, _drop_target,
)  # fmt: skip
_OTHER_EDITS: tuple[Callable[[Random, Case], Case], ...] = (
    _start, _start_moves, _limits, _limits, _conditions, _allowed,
)  # fmt: skip
