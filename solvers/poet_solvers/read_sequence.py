"""A schedule read as a sequence of runs: `sequence_schedule` backwards, for warm starts.

Kept: the order of runs, which uses a page_in brought, which persistent storages begin in RAM. Not
kept: when transfers and frees happen, which the sequence does not say. Values that are paged in and
freed unused, and persistent storages that begin in both places, come out as the sequence has them.
"""

from __future__ import annotations

from poet_core.plan import Do, Schedule
from poet_solvers.occurrences import END, Sequence, StepModel


def read_sequence(model: StepModel, schedule: Schedule) -> Sequence:
    """The sequence of a schedule that the judge accepts."""
    table, op_count = model.table, len(model.problem.graph.ops)
    runs: list[tuple[int, int]] = []
    paged: set[tuple[int, int]] = set()
    arrived: set[int] = set()  # storages paged in since anybody touched them
    seen: set[int] = set()
    for place, instruction in enumerate(schedule.instructions):
        target = instruction.target
        if instruction.do is Do.PAGE_IN:
            arrived.add(target)
        elif instruction.do is Do.FREE:
            arrived.discard(target)
        elif instruction.do is Do.COMPUTE:
            number = target if target not in seen else op_count + place
            seen.add(target)
            runs.append((number, target))
            for value in table.needed[target]:
                if table.values[value].storage in arrived:
                    paged.add((value, number))
            arrived.difference_update(model.problem.graph.ops[target].touches)
    start_ram = frozenset(schedule.start_ram)
    wanted = {*model.results, *(table.last_of[storage] for storage in start_ram)}
    paged.update((value, END) for value in wanted if table.values[value].storage in arrived)
    return Sequence(runs=tuple(runs), paged=frozenset(paged), start_ram=start_ram)
