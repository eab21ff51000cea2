"""A schedule as a sequence of runs: what the greedy planner and the search core work on.

    START | op op op(again) op ... | END         a run = (number, op); paged: (value, run number)

A value is held from its latest production to each use, unless that use pages it in. Page-outs,
frees and start sets follow: a page_in needs a copy, flash must be up to date where a storage begins
there, and what is held no longer is freed. A sequence may say that a page_in is issued before an
earlier run, and that a free waits until after a later one, so that transfers run beside compute.
Invariant: `sequence_schedule` decides nothing.

Superseded versions are never asked for again (`superseders`); ops that mutate and ops that may not
be recomputed run once.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.plan import Do, Instruction, Objective, Problem, Schedule
from poet_solvers.values import ValueTable, value_table

START, END = -1, -2
"""The pseudo-ops at either end of a sequence: inputs are given, results are wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepModel:
    """A problem as a sequence needs it. Costs are joules or seconds, transfers never hidden.

    `page_*_cost` by value id; `superseders[op]`: ops after whose first run it may not run again.
    """

    problem: Problem
    table: ValueTable
    op_cost: tuple[float, ...]
    page_in_cost: tuple[float, ...]
    page_out_cost: tuple[float, ...]
    workspace_bytes: tuple[int, ...]
    may_rerun: tuple[bool, ...]
    superseders: tuple[tuple[int, ...], ...]
    persistent: frozenset[int]
    results: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Runs in order, without START and END (whose numbers are START and END).

    `early`: (value, the run that it is paged in for, the run before which it is issued), in the
    order of issue; `late`: (value, the run after which it could be freed, the run after which it
    is). What they do not name is paged in right before its run and freed right after.
    """

    runs: tuple[tuple[int, int], ...]
    paged: frozenset[tuple[int, int]]
    start_ram: frozenset[int]
    early: tuple[tuple[int, int, int], ...] = ()
    late: tuple[tuple[int, int, int], ...] = ()


def step_model(problem: Problem) -> StepModel:
    """The model of `problem`, for its objective."""
    graph, costs, budget = problem.graph, problem.costs, problem.budget
    table = value_table(graph, budget)

    def price(joules: tuple[float, ...], seconds: tuple[float, ...]) -> list[float]:
        if problem.objective is Objective.TIME:
            return list(seconds)
        return [j + costs.idle_watts * s for j, s in zip(joules, seconds, strict=True)]

    page_in = price(costs.page_in_joules, costs.page_in_seconds)
    page_out = price(costs.page_out_joules, costs.page_out_seconds)
    giver = {pair: op.id for op in graph.ops for pair in graph.versions.gives[op.id].items()}

    def superseders(op_id: int) -> tuple[int, ...]:
        versions = graph.versions
        touched = [*versions.need[op_id].items(), *versions.gives[op_id].items()]
        later = {giver.get((storage, version + 1)) for storage, version in touched}
        return tuple(sorted(op for op in later if op is not None))

    values = table.values
    return StepModel(
        problem=problem,
        table=table,
        op_cost=tuple(price(costs.op_joules, costs.op_seconds)),
        page_in_cost=tuple(page_in[value.storage] for value in values),
        page_out_cost=tuple(page_out[value.storage] for value in values),
        workspace_bytes=tuple(budget.rounded(op.workspace_bytes) for op in graph.ops),
        may_rerun=tuple(
            problem.allowed.rematerialize and op.recomputable and not op.random and not op.mutates
            for op in graph.ops
        ),
        superseders=tuple(superseders(op.id) for op in graph.ops),
        persistent=frozenset(value.storage for value in values if value.persistent),
        results=tuple(
            table.last_of[storage.id]
            for storage in graph.storages
            if storage.result and storage.id in table.last_of
        ),
    )


def hold_everything(model: StepModel) -> Sequence:
    """Every op once, nothing paged, persistent storages in RAM all step."""
    return Sequence(
        runs=tuple((op.id, op.id) for op in model.problem.graph.ops),
        paged=frozenset(),
        start_ram=model.persistent,
    )


def sequence_schedule(model: StepModel, sequence: Sequence) -> Schedule:
    """The instructions of a sequence, frees as early and page_outs as early as can be."""
    return _Writer(model, sequence).schedule()


class _Writer:
    """`again[v]`: for each touch of v in order, whether it brings v anew (else: it was held)."""

    def __init__(self, model: StepModel, sequence: Sequence) -> None:
        self._model, self._sequence, self._table = model, sequence, model.table
        self._out: list[Instruction] = []
        self._brought: list[list[bool]] = [[] for _ in model.table.values]
        self._page_ins: set[tuple[int, int]] = set()
        self._copied: set[int] = set()
        self._early = {(v, number) for v, number, _ in sequence.early}
        self._issued: dict[int, list[int]] = {}
        for v, _, before in sequence.early:
            self._issued.setdefault(before, []).append(v)
        self._late = {(v, number): after for v, number, after in sequence.late}
        self._freed: dict[int, list[int]] = {}
        self._start_values = [
            value.id
            for value in model.table.values
            if value.starts_step and (not value.persistent or value.storage in sequence.start_ram)
        ]
        self._end_values = sorted(
            {*model.results, *(model.table.last_of[s] for s in sequence.start_ram)}
        )

    def schedule(self) -> Schedule:
        runs = [(START, START), *self._sequence.runs, (END, END)]
        for number, op in runs:
            self._read(number, op)
        values = self._table.values
        paged = {v for v, _ in self._page_ins}
        flash = {
            s for s in self._model.persistent
            if s not in self._sequence.start_ram or self._table.first_of[s] in paged
        }  # fmt: skip
        first = {self._table.first_of[s] for s in flash}
        last = {self._table.last_of[s] for s in flash}
        self._to_copy = (paged | last) - first
        for touches in self._brought:
            touches.reverse()
        for number, op in runs:
            self._write(number, op)
        assert all(values[v].starts_step for v in first)
        return Schedule(
            start_ram=tuple(sorted(self._sequence.start_ram)),
            start_flash=tuple(sorted(flash)),
            instructions=tuple(self._out),
        )

    def _needed(self, op: int) -> tuple[int, ...]:
        if op == START:
            return ()
        return tuple(self._end_values) if op == END else self._table.needed[op]

    def _given(self, op: int) -> tuple[int, ...]:
        if op == START:
            return tuple(self._start_values)
        return () if op == END else self._table.given(op)

    def _read(self, number: int, op: int) -> None:
        for v in self._needed(op):
            page_in = not self._brought[v] or (v, number) in self._sequence.paged
            if page_in:
                self._page_ins.add((v, number))
            self._brought[v].append(page_in)
        for v in self._given(op):
            self._brought[v].append(True)

    def _write(self, number: int, op: int) -> None:
        needed, given = self._needed(op), self._given(op)
        for v in self._issued.get(number, ()):
            self._say(Do.PAGE_IN, v)
        for v in needed:
            if (v, number) in self._page_ins and (v, number) not in self._early:
                self._say(Do.PAGE_IN, v)
        if op >= 0:
            self._out.append(Instruction(Do.COMPUTE, op))
        for v in (*needed, *given):
            self._brought[v].pop()
        for v in sorted(given):
            if v in self._to_copy and v not in self._copied:
                self._copied.add(v)
                self._say(Do.PAGE_OUT, v)
        if op == END:
            return
        in_place = {self._table.values[v].storage for v in self._mutated(op)}
        for v in (*needed, *given):
            held = self._brought[v] and not self._brought[v][-1]
            if held or (v in needed and self._table.values[v].storage in in_place):
                continue
            after = self._late.get((v, number), number)
            self._freed.setdefault(after, []).append(v)
        for v in self._freed.pop(number, ()):
            self._say(Do.FREE, v)

    def _mutated(self, op: int) -> tuple[int, ...]:
        return self._table.mutated[op] if op >= 0 else ()

    def _say(self, do: Do, v: int) -> None:
        self._out.append(Instruction(do, self._table.values[v].storage))
