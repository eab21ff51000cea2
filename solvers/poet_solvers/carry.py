"""Page-outs of a step's end, carried over into the beginning of the next: for time alone.

    ... update s | page_out s | ... | free s (waits) | END
    page_out s | first ops | free s | ... page_in s | update s ... END      s begins and ends in RAM

A step ends when its last transfer has left, so what is written after the last updates is waited for.
The next step's first ops leave the lane idle, and often RAM for what goes out beside them; the local
search writes a value where it is made, so it never tries this. Invariant: `carried` returns a
schedule that the judge accepts and finds shorter, or the one it was given; one judgement for each
storage that it tries, and never more than a given number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from poet_core.errors import PlanError
from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate

# Judgements at most: a limit, so that this stays a small part of all.
_MOST_TRIES = 200


def _never() -> bool:
    return False


def carried(problem: Problem, schedule: Schedule, *, stop: Callable[[], bool] = _never) -> Schedule:
    """`schedule`, which the judge must accept, or a shorter one made of it. Once `stop` says so it
    ends after the judgement that it is at."""
    if problem.objective is not Objective.TIME:
        return schedule
    best, tries, better = (schedule, _judged(problem, schedule)), 0, True
    while better:
        better = False
        for storage in _written_last(best[0]):
            if tries >= _MOST_TRIES or stop():
                return best[0]
            found = _carried_over(problem, *best, storage)
            if found is None:
                continue
            tries += 1
            judgement = _judgement_of(problem, found)
            if judgement is not None and judgement.step_seconds < best[1].step_seconds:
                best, better = (found, judgement), True
    return best[0]


def _judged(problem: Problem, schedule: Schedule) -> Judgement:
    return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)


def _judgement_of(problem: Problem, schedule: Schedule) -> Judgement | None:
    try:
        return _judged(problem, schedule)
    except PlanError:
        return None


def _written_last(schedule: Schedule) -> Iterator[int]:
    """Storages that begin in flash alone and are paged out, the last of them first."""
    found: dict[int, None] = {}
    only = set(schedule.start_flash) - set(schedule.start_ram)
    for instruction in reversed(schedule.instructions):
        if instruction.do is Do.PAGE_OUT and instruction.target in only:
            found.setdefault(instruction.target)
    return iter(found)


def _carried_over(
    problem: Problem, schedule: Schedule, judgement: Judgement, storage: int
) -> Schedule | None:
    """The schedule with the storage's last page_out at its beginning; None where the storage comes
    back behind it, or RAM has no room before its first page_in."""
    own = [
        (at, one.do)
        for at, one in enumerate(schedule.instructions)
        if one.target == storage and one.do is not Do.COMPUTE
    ]
    does = [do for _, do in own]
    if does[0] is not Do.PAGE_IN or does[-2:] != [Do.PAGE_OUT, Do.FREE]:
        return None
    first_in, written, freed = own[0][0], own[-2][0], own[-1][0]
    room_bytes = problem.budget.ram_bytes - problem.budget.rounded(
        problem.graph.storages[storage].size_bytes
    )
    memory = (judgement.initial_bytes, *judgement.memory_bytes)
    full = next((at for at, used in enumerate(memory) if used > room_bytes), len(memory))
    before = min(first_in, full - 1)  # `memory` begins one place earlier
    if before < 0:
        return None
    kept = [one for at, one in enumerate(schedule.instructions) if at not in (written, freed)]
    instructions = (
        Instruction(Do.PAGE_OUT, storage),
        *kept[:before],
        Instruction(Do.FREE, storage),
        *kept[before:],
    )
    return Schedule(
        start_ram=(*schedule.start_ram, storage),
        start_flash=tuple(one for one in schedule.start_flash if one != storage),
        instructions=instructions,
    )
