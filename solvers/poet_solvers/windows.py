"""In which stages an op may run: what the model leaves out because it cannot or does not pay.

Stage t is the stretch of the program that ends with the first run of op t. `stages[t]` lists the
ops that may run in stage t in ascending order; the last is t itself, which must.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.plan import Objective, Problem
from poet_solvers.values import Value, ValueTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """`stages[t]`: ops that may run in stage t. `events[v]`: the stages in which value v may be
    touched after its first production, ascending; stage n (one past the last) is the end of the
    step, for values that must be somewhere then. `users_at[v][t]`: the possible users."""

    stages: tuple[tuple[int, ...], ...]
    events: tuple[tuple[int, ...], ...]
    users_at: tuple[dict[int, tuple[int, ...]], ...]

    @property
    def extra_runs(self) -> int:
        """How many second runs the model may choose from."""
        return sum(len(stage) - 1 for stage in self.stages)


def possible_runs(
    problem: Problem,
    table: ValueTable,
) -> Windows:
    """The windows of a problem.

    An op never runs again where its inputs or outputs are superseded, where nobody can want its
    outputs any more, or where paging its outputs costs no more than running it.
    """
    op_count = len(problem.graph.ops)
    until = _rerun_ends(problem, table)
    stages = [
        (*(op_id for op_id in range(stage) if stage <= until[op_id]), stage)
        for stage in range(op_count)
    ]
    users_at = _users_at(table, stages)
    events = tuple(_events(value, users_at[value.id], stages, op_count) for value in table.values)
    return Windows(stages=tuple(stages), events=events, users_at=users_at)


def second_run_count(problem: Problem, table: ValueTable) -> int:
    """`possible_runs(problem, table).extra_runs`, without building windows that may be huge."""
    ends = _rerun_ends(problem, table)
    return sum(end - op_id for op_id, end in enumerate(ends))


def _rerun_ends(problem: Problem, table: ValueTable) -> list[int]:
    """By op: the last stage in which it may run again (its own stage: never again)."""
    op_count = len(problem.graph.ops)
    until = list(range(op_count))
    if not problem.allowed.rematerialize:
        return until
    for op_id in reversed(range(op_count)):
        if paging_replaces(problem, table, op_id):
            continue
        wanted = op_id
        for v in table.given(op_id):
            value = table.values[v]
            if value.at_end:
                wanted = op_count - 1
            for user in value.users:
                wanted = max(wanted, user, until[user])
        until[op_id] = max(op_id, min(table.again_until[op_id], wanted))
    return until


def paging_replaces(problem: Problem, table: ValueTable, op_id: int) -> bool:
    """Whether paging an op's outputs out once and in again costs no more than one more run.

    Then no second run of the op can pay: a page_in needs less RAM than the run that it replaces.
    Only said where flash is unlimited and transfers never hide behind computation.
    """
    budget, costs = problem.budget, problem.costs
    if not problem.allowed.page:
        return False
    if budget.flash_bytes is not None or budget.flash_write_bytes is not None:
        return False
    wanted = [table.values[v] for v in table.given(op_id)]
    storages = [value.storage for value in wanted if value.users or value.at_end]
    joules = sum(costs.page_in_joules[s] + costs.page_out_joules[s] for s in storages)
    seconds = sum(costs.page_in_seconds[s] + costs.page_out_seconds[s] for s in storages)
    time_matters = (
        budget.step_seconds is not None
        or problem.objective is Objective.TIME
        or costs.idle_watts > 0
    )
    energy_matters = budget.energy_joules is not None or problem.objective is Objective.ENERGY
    return not (
        (energy_matters and joules > costs.op_joules[op_id])
        or (time_matters and seconds > costs.op_seconds[op_id])
    )


def _users_at(
    table: ValueTable, stages: list[tuple[int, ...]]
) -> tuple[dict[int, tuple[int, ...]], ...]:
    """By value: the stages in which an op that uses it may run, and those ops."""
    found: list[dict[int, list[int]]] = [{} for _ in table.values]
    for stage, running in enumerate(stages):
        for op_id in running:
            for value_id in table.needed[op_id]:
                found[value_id].setdefault(stage, []).append(op_id)
    return tuple({stage: tuple(ops) for stage, ops in of_value.items()} for of_value in found)


def _events(
    value: Value, users_at: dict[int, tuple[int, ...]], stages: list[tuple[int, ...]], end: int
) -> tuple[int, ...]:
    touched = set(users_at)
    touched |= {t for t in range(value.producer + 1, end) if value.producer in stages[t]}
    if value.at_end:
        touched.add(end)
    return tuple(sorted(touched))
