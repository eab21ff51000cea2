"""The first-run relaxation: what every schedule in document order must at least do and pay.

    hold[v, i]     value v is in RAM at every checkpoint between its events i and i + 1
    page_in[v, i]  v is paged in after the checkpoint before event i, up to event i's segment
    again[g, o]    op o runs again in segment g
    saved[v]       v is paged out at least once
    start_ram[s], start_flash[s], states[o, h]  (the generator state of o is held at checkpoint h)

Invariant: these figures, read off any schedule that the judge accepts and whose first runs are in
document order, satisfy every row and cost no more than the schedule does (docs/formulation.md,
"Lower bounds"). Order within a segment and RAM between checkpoints are left out, which only lowers
the optimum; limits on flash, time and energy are added by `limits.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from poet_core.plan import Problem
from poet_solvers.bounds.prices import Prices
from poet_solvers.bounds.rows import ONE, ZERO, Rows, Sum
from poet_solvers.bounds.segments import Segments
from poet_solvers.values import Value, ValueTable


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRun:
    """The rows, and which columns (or constants) stand for what. Costs are what comes on top of
    every op once."""

    rows: Rows
    start_ram: dict[int, Sum]
    start_flash: dict[int, Sum]
    saved: dict[int, Sum]
    again: dict[tuple[int, int], Sum]
    page_in: dict[tuple[int, int], Sum]
    hold: dict[tuple[int, int], Sum]


def first_run_relaxation(
    problem: Problem, table: ValueTable, prices: Prices, segments: Segments
) -> FirstRun:
    """The relaxation of a problem at the checkpoints of `segments`."""
    return _Builder(problem, table, prices, segments).build()


class _Builder:
    def __init__(
        self, problem: Problem, table: ValueTable, prices: Prices, segments: Segments
    ) -> None:
        self._problem, self._table, self._prices = problem, table, prices
        self._segments = segments
        self._rows = Rows()
        versions = problem.graph.versions
        # The version of each touched storage right after the first run at a checkpoint.
        self._touched = [{**versions.need[op], **versions.gives[op]} for op in segments.checkpoints]
        self._start_ram: dict[int, Sum] = {}
        self._start_flash: dict[int, Sum] = {}
        self._saved: dict[int, Sum] = {}
        self._again: dict[tuple[int, int], Sum] = {}
        self._page_in: dict[tuple[int, int], Sum] = {}
        self._hold: dict[tuple[int, int], Sum] = {}

    def build(self) -> FirstRun:
        self._decide()
        for value in self._table.values:
            self._follow(value)
        self._flash()
        if self._segments.chains:
            self._inputs_of_reruns()
        self._memory()
        return FirstRun(
            rows=self._rows,
            start_ram=self._start_ram,
            start_flash=self._start_flash,
            saved=self._saved,
            again=self._again,
            page_in=self._page_in,
            hold=self._hold,
        )

    def _decide(self) -> None:
        """Every column, or the constant that stands in its place."""
        rows, prices, paging = self._rows, self._prices, self._problem.allowed.page
        for value in self._table.values:
            if value.persistent and value.starts_step:
                self._start_ram[value.storage] = rows.column() if paging else ONE
                self._start_flash[value.storage] = rows.column() if paging else ZERO
        for op_id, segments in enumerate(self._segments.reruns):
            for segment in segments:
                self._again[segment, op_id] = rows.column(prices.run[op_id])
        for value in self._table.values:
            events = self._segments.events[value.id]
            if paging and (len(events) > 1 or value.at_end):
                self._saved[value.id] = rows.column(prices.page_out[value.storage])
                for index in range(1, len(events)):
                    self._page_in[value.id, index] = rows.column(
                        prices.page_in[value.storage], whole=False
                    )
            for index in range(len(events) - 1):
                self._hold[value.id, index] = self._held(value, index)

    def _held(self, value: Value, index: int) -> Sum:
        """A new column, or what is known: a storage holds one version, a first run what it touches."""
        begin, end = self._segments.events[value.id][index : index + 2]
        inside = [self._touched[h].get(value.storage) for h in range(max(0, begin), end)]
        if any(version not in (None, value.version) for version in inside):
            return ZERO
        if inside and all(version == value.version for version in inside):
            return ONE
        if begin < 0 and not inside:
            return self._start_ram.get(value.storage, ONE)
        return self._rows.column()

    def _again_in(self, value: Value, segment: int) -> Sum:
        return self._again.get((segment, value.producer), ZERO)

    def _available(self, value: Value, index: int) -> Sum:
        """Whether the value is in RAM at some moment of the segment of its event `index`."""
        segment = self._segments.events[value.id][index]
        page_in = self._page_in.get((value.id, index), ZERO)
        return self._hold[value.id, index - 1] + page_in + self._again_in(value, segment)

    def _demand(self, value: Value, index: int) -> Sum:
        """1 where a first run or the end of the step needs the value at its event `index`."""
        segment = self._segments.events[value.id][index]
        if segment in self._segments.wanted[value.id]:
            return ONE
        if segment != self._segments.last or not value.at_end:
            return ZERO
        if self._problem.graph.storages[value.storage].result:
            return ONE
        return self._start_ram[value.storage]

    def _follow(self, value: Value) -> None:
        """What is in RAM was there, was paged in or was computed again."""
        rows, events = self._rows, self._segments.events[value.id]
        if events[0] < 0 and len(events) > 1 and value.storage in self._start_ram:
            rows.at_most(self._hold[value.id, 0], self._start_ram[value.storage])
        for index in range(1, len(events)):
            demand = self._demand(value, index)
            rows.at_most(demand, self._available(value, index))
            if index < len(events) - 1 and demand != ONE:
                rows.at_most(self._hold[value.id, index], self._available(value, index))

    def _copies(self, value: Value) -> Sum:
        """Whether flash ever holds the value."""
        saved = self._saved.get(value.id, ZERO)
        if value.starts_step:
            return saved + self._start_flash.get(value.storage, ZERO)
        return saved

    def _flash(self) -> None:
        """A page_in needs a copy; so does whatever was dropped, is wanted and was not run again."""
        rows = self._rows
        for (v, _), page_in in self._page_in.items():
            rows.at_most(page_in, self._copies(self._table.values[v]))
        for value in self._table.values:
            events = self._segments.events[value.id]
            brought, demand, until = ZERO, ZERO, 0
            for index in reversed(range(1, len(events))):
                here = self._demand(value, index)
                if here != ZERO:
                    demand, brought, until = here, ZERO, events[index]
                brought += self._again_in(value, events[index])
                if demand != ZERO:
                    back = self._hold[value.id, index - 1] + self._copies(value) + brought
                    rows.at_most(demand, back)
                    self._chain(value, index, demand, until)
        for storage, start_flash in self._start_flash.items():
            rows.at_most(ONE, self._start_ram[storage] + start_flash)
            last = self._table.values[self._table.last_of[storage]]
            if not last.starts_step:
                rows.at_most(start_flash, self._saved.get(last.id, ZERO))

    def _chain(self, value: Value, index: int, demand: Sum, until: int) -> None:
        """A value that is dropped in the gap before its event `index`, is wanted in segment `until`
        and is never saved comes from a second run in between: each input of that is there too."""
        again = self._again_in(value, self._segments.events[value.id][index])
        if not self._segments.chains or again == ZERO:
            return
        dropped = self._hold[value.id, index - 1] + self._copies(value)
        begin = self._segments.events[value.id][index] - 1
        for v in self._table.needed[value.producer]:
            other = self._table.values[v]
            if any(begin < segment <= until for segment in self._segments.wanted[v]):
                continue
            back = self._hold_at(other, begin) + self._copies(other)
            for segment in self._segments.events[v]:
                if begin < segment <= until:
                    back += self._again_in(other, segment)
            self._rows.at_most(demand, dropped + back)

    def _inputs_of_reruns(self) -> None:
        index_of = [
            {segment: index for index, segment in enumerate(events)}
            for events in self._segments.events
        ]
        for (segment, op_id), again in self._again.items():
            for v in self._table.needed[op_id]:
                if segment not in self._segments.wanted[v]:
                    available = self._available(self._table.values[v], index_of[v][segment])
                    self._rows.at_most(again, available)

    def _memory(self) -> None:
        """RAM before the first instruction, during the first run at each checkpoint, at the end."""
        graph, budget, values = self._problem.graph, self._problem.budget, self._table.values
        room = budget.ram_bytes - budget.reserved_bytes
        persistent = [v for v in values if v.persistent and v.starts_step]
        held = [(v.ram_bytes, self._start_ram[v.storage]) for v in persistent]
        inputs = [(v.ram_bytes, ONE) for v in values if v.starts_step and not v.persistent]
        self._rows.weighted(held + inputs, room)
        results = [(budget.rounded(s.size_bytes), ONE) for s in graph.storages if s.result]
        stay = [term for v, term in zip(persistent, held, strict=True)
                if not graph.storages[v.storage].result]  # fmt: skip
        self._rows.weighted(stay + results, room)
        states = self._states()
        for number, op_id in enumerate(self._segments.checkpoints):
            op, touched = graph.ops[op_id], self._touched[number]
            fixed = sum(budget.rounded(graph.storages[s].size_bytes) for s in touched)
            terms = [
                (value.ram_bytes, self._hold_at(value, number))
                for value in values
                if value.storage not in touched
            ]
            left = room - fixed - budget.rounded(op.workspace_bytes)
            self._rows.weighted(terms + states[number], left)

    def _hold_at(self, value: Value, checkpoint: int) -> Sum:
        index = bisect_right(self._segments.events[value.id], checkpoint) - 1
        return self._hold.get((value.id, index), ZERO) if index >= 0 else ZERO

    def _states(self) -> list[list[tuple[int, Sum]]]:
        """By checkpoint: generator states held for a further run of a random op."""
        graph, segments = self._problem.graph, self._segments
        found: list[list[tuple[int, Sum]]] = [[] for _ in segments.checkpoints]
        state_bytes = self._problem.budget.rounded(graph.rng_state_bytes)
        if not segments.chains or not state_bytes:
            return found
        for op in graph.ops:
            if not op.random or not segments.reruns[op.id]:
                continue
            later = ZERO
            for segment in reversed(segments.reruns[op.id]):
                state = self._rows.column()
                self._rows.at_most(self._again[segment, op.id], state)
                self._rows.at_most(later, state)
                found[segment - 1].append((state_bytes, state))
                later = state
        return found
