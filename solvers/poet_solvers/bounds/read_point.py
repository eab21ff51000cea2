"""A point of the first-run relaxation as a schedule: what was decided, in an order that can run.

    segment by segment, first runs in document order; each needed value was held, is paged in, or its
    producer runs again just before (with what that needs); what is made for a later segment alone
    runs again just before the checkpoint

A page_in waits for the next use. The point knows neither the order inside a segment nor the RAM
there, so the judge may refuse the schedule; nothing here decides more than the point does.
"""

from __future__ import annotations

from collections.abc import Sequence as Row

from poet_core.plan import Problem, Schedule
from poet_solvers.bounds.relaxation import Relaxation
from poet_solvers.occurrences import END, Sequence, sequence_schedule, step_model

_HALF = 0.5


def schedule_of(relaxation: Relaxation, point: Row[float]) -> Schedule:
    """The schedule of a point given by column."""
    sequence = _Reader(relaxation, point).read()
    return sequence_schedule(step_model(relaxation.problem), sequence)


class _Reader:
    """`since[v]`: the event of v after which it was last in RAM for certain."""

    def __init__(self, relaxation: Relaxation, point: Row[float]) -> None:
        first_run = relaxation.first_run
        self._problem: Problem = relaxation.problem
        self._table, self._segments = relaxation.table, relaxation.segments
        self._held = {key: part.at(point) > _HALF for key, part in first_run.hold.items()}
        self._waiting: dict[int, list[int]] = {}
        for (segment, op), part in first_run.again.items():
            if part.at(point) > _HALF:
                self._waiting.setdefault(segment, []).append(op)
        self._start_ram = frozenset(
            storage for storage, part in first_run.start_ram.items() if part.at(point) > _HALF
        )
        self._index = [
            {segment: index for index, segment in enumerate(events)}
            for events in self._segments.events
        ]
        self._since: dict[int, int] = {
            value.id: 0
            for value in self._table.values
            if value.starts_step and (not value.persistent or value.storage in self._start_ram)
        }
        self._runs: list[tuple[int, int]] = []
        self._paged: set[tuple[int, int]] = set()
        self._busy: set[int] = set()

    def read(self) -> Sequence:
        """All segments, then what must be in RAM at the end."""
        checkpoints = set(self._segments.checkpoints)
        for op in self._problem.graph.ops:
            segment = self._segments.of_op[op.id]
            if op.id in checkpoints:
                self._make_for_later(segment)
            self._run(op.id, segment, number=op.id)
        self._make_for_later(self._segments.last)
        for value in self._table.values:
            result = self._problem.graph.storages[value.storage].result
            if value.at_end and (result or value.storage in self._start_ram):
                self._bring(value.id, self._segments.last, END)
        return Sequence(
            runs=tuple(self._runs), paged=frozenset(self._paged), start_ram=self._start_ram
        )

    def _run(self, op: int, segment: int, number: int) -> None:
        self._busy.add(op)
        for v in self._table.needed[op]:
            self._bring(v, segment, number)
        self._busy.discard(op)
        self._runs.append((number, op))
        for v in self._table.given(op):
            self._since[v] = self._index[v].get(segment, 0)

    def _bring(self, v: int, segment: int, number: int) -> None:
        """See to it that v is in RAM for the run `number`."""
        index = self._index[v].get(segment)
        producer = self._table.values[v].producer
        if index is not None and not self._is_held(v, index):
            if producer in self._waiting.get(segment, ()) and producer not in self._busy:
                self._again(producer, segment)
            elif self._problem.allowed.page:
                self._paged.add((v, number))
        if index is not None:
            self._since[v] = index

    def _is_held(self, v: int, index: int) -> bool:
        since = self._since.get(v)
        if since is None:
            return False
        return all(self._held.get((v, gap), False) for gap in range(since, index))

    def _again(self, op: int, segment: int) -> None:
        self._waiting[segment].remove(op)
        self._run(op, segment, number=len(self._problem.graph.ops) + len(self._runs))

    def _make_for_later(self, segment: int) -> None:
        """Second runs that nobody asked for in their segment, if what they give is held after it."""
        for op in sorted(self._waiting.get(segment, ())):
            if op in self._waiting[segment] and any(
                self._held.get((v, self._index[v].get(segment, -1)), False)
                and not self._is_held(v, self._index[v][segment])
                for v in self._table.given(op)
            ):
                self._again(op, segment)
