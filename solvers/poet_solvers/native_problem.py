"""A problem in the tables that the native search reads, and its answers as sequences.

Beside the values of the table it has, numbered after them, two kinds that no transfer names:
versions of zero-byte storages that an op gives (they order runs), and the state of the generator
for each random op that may run again (in use from its first to its last run). Invariant: what
comes back names values of the table alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from poet_core.plan import Objective
from poet_solvers.occurrences import END, START, Sequence, StepModel

_GENERATOR = -2  # Problem::generator_mark

Amounts = tuple[float, float, float, float, float]
"""Objective with transfers never hidden, compute seconds, lane seconds, joules, bytes written."""

_NOTHING: Amounts = (0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class _Values:
    """The numbers of all values; `of[storage, version]` finds those of storages."""

    of: dict[tuple[int, int], int]
    producer: list[int]
    storage: list[int]
    size: list[float]
    generator: list[int] = field(default_factory=list)


def native_problem(native: Any, model: StepModel) -> Any:
    """`model` as the native part's `Problem`."""
    problem, table = model.problem, model.table
    values = _all_values(model)
    made = native.Problem()
    _fill_ops(made, model, values)
    _fill_values(made, model, values)
    begins = [v.id for v in table.values if v.starts_step and not v.persistent]
    begins += [
        number
        for number in range(len(table.values), len(values.producer))
        if values.producer[number] == -1
    ]
    made.begins = begins
    made.persistent = [(table.first_of[s], table.last_of[s]) for s in sorted(model.persistent)]
    made.results = list(model.results)
    budget, allowed = problem.budget, problem.allowed
    made.budget = float(budget.ram_bytes - budget.reserved_bytes)
    made.page, made.reorder = allowed.page, allowed.reorder
    made.rematerialize = allowed.rematerialize
    made.overlap = budget.overlap
    made.time = problem.objective is Objective.TIME
    made.idle_watts = problem.costs.idle_watts
    made.most_seconds = _limit(budget.step_seconds)
    made.most_joules = _limit(budget.energy_joules)
    made.most_flash = _limit(budget.flash_bytes)
    made.most_writes = _limit(budget.flash_write_bytes)
    return made


def native_start(model: StepModel, start: Sequence) -> dict[str, Any]:
    """`start` as the arguments of the native search."""
    places = {number: place for place, (number, _op) in enumerate(start.runs)}
    return {
        "runs": [op for _number, op in start.runs],
        "paged": sorted((v, places.get(number, len(start.runs))) for v, number in start.paged),
        "start_ram": [int(storage in start.start_ram) for storage in sorted(model.persistent)],
    }


def sequence_of(model: StepModel, answer: Any) -> Sequence | None:
    """A native answer (cost, runs, paged, late, start_ram); cost below 0: there is none."""
    cost, runs, paged, late, start_ram = answer
    if cost < 0:
        return None
    seen: set[int] = set()
    numbers: list[int] = []
    for place, op in enumerate(runs):
        numbers.append(op if op not in seen else len(model.op_cost) + place)
        seen.add(op)
    numbers.append(END)
    storages = sorted(model.persistent)
    moved = late or any(place != issued for _v, place, issued in paged)
    return Sequence(
        runs=tuple(zip(numbers, runs, strict=False)),
        paged=frozenset((v, numbers[place]) for v, place, _issued in paged),
        start_ram=frozenset(s for s, held in zip(storages, start_ram, strict=True) if held),
        early=tuple((v, numbers[place], numbers[issued]) for v, place, issued in paged)
        if moved
        else (),
        late=tuple(
            (v, numbers[place] if place >= 0 else START, numbers[until]) for v, place, until in late
        ),
    )


def _limit(amount: float | None) -> float:
    return -1.0 if amount is None else float(amount)


def _all_values(model: StepModel) -> _Values:
    graph, table = model.problem.graph, model.table
    values = _Values(
        of={(value.storage, value.version): value.id for value in table.values},
        producer=[value.producer for value in table.values],
        storage=[value.storage for value in table.values],
        size=[float(value.ram_bytes) for value in table.values],
    )

    def add(producer: int, storage: int, size: float) -> int:
        values.producer.append(producer)
        values.storage.append(storage)
        values.size.append(size)
        return len(values.size) - 1

    for op in graph.ops:
        for storage, version in graph.versions.gives[op.id].items():
            if graph.storages[storage].size_bytes:
                continue
            if version and (storage, version - 1) not in values.of:
                values.of[storage, version - 1] = add(-1, storage, 0.0)
            values.of[storage, version] = add(op.id, storage, 0.0)
    state = model.problem.budget.rounded(graph.rng_state_bytes)
    values.generator = [
        add(_GENERATOR, -1, float(state)) if op.random and may_rerun(model, op.id) and state else -1
        for op in graph.ops
    ]
    return values


def may_rerun(model: StepModel, op_id: int) -> bool:
    """Whether the search may run an op again; random ones too, unlike greedy."""
    op = model.problem.graph.ops[op_id]
    return model.problem.allowed.rematerialize and op.recomputable and not op.mutates


def _fill_ops(made: Any, model: StepModel, values: _Values) -> None:
    graph, costs, versions = model.problem.graph, model.problem.costs, model.problem.graph.versions

    def ids(pairs: Any, among: tuple[int, ...]) -> list[int]:
        found = (values.of.get((storage, pairs[storage])) for storage in among)
        return [v for v in found if v is not None]

    made.needed = [ids(versions.need[op.id], op.reads + op.mutates) for op in graph.ops]
    made.written = [ids(versions.gives[op.id], op.writes) for op in graph.ops]
    made.mutated = [ids(versions.gives[op.id], op.mutates) for op in graph.ops]
    made.uses = [list(needed) for needed in model.table.needed]
    made.generator = values.generator
    made.workspace = [float(size) for size in model.workspace_bytes]
    made.run = [
        (model.op_cost[op.id], costs.op_seconds[op.id], 0.0, costs.op_joules[op.id], 0.0)
        for op in graph.ops
    ]
    made.may_rerun = [int(may_rerun(model, op.id)) for op in graph.ops]
    made.superseders = [list(one) for one in model.superseders]
    draws = [op.id for op in graph.ops if op.random]
    before, after = [-1] * len(graph.ops), [-1] * len(graph.ops)
    for one, other in pairwise(draws):
        after[one], before[other] = other, one
    made.random_before, made.random_after = before, after


def _fill_values(made: Any, model: StepModel, values: _Values) -> None:
    costs, table = model.problem.costs, model.table
    rest = len(values.size) - len(table.values)
    made.size, made.producer, made.storage = values.size, values.producer, values.storage
    made.page_in = [
        (
            model.page_in_cost[v.id], 0.0, costs.page_in_seconds[v.storage],
            costs.page_in_joules[v.storage], 0.0,
        )
        for v in table.values
    ] + [_NOTHING] * rest  # fmt: skip
    made.page_out = [
        (
            model.page_out_cost[v.id], 0.0, costs.page_out_seconds[v.storage],
            costs.page_out_joules[v.storage], float(v.flash_bytes),
        )
        for v in table.values
    ] + [_NOTHING] * rest  # fmt: skip
    made.flash = [float(v.flash_bytes) for v in table.values] + [0.0] * rest
    earlier, later = [-1] * len(values.size), [-1] * len(values.size)
    for (storage, version), number in values.of.items():
        after = values.of.get((storage, version + 1))
        if after is not None:
            later[number], earlier[after] = after, number
    made.earlier, made.later = earlier, later
