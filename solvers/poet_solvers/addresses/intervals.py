"""From a schedule to blocks: every residence that the judge counts, from when to when.

The account follows docs/rules.md, "Memory": a page_in counts from where it stands, a storage until
its free, a write onto a resident storage is a second copy that then replaces the first, a mutation
stays in place, workspace lasts one instruction, a generator state from the first to the last run.
One exception: where the second copy is the storage's only other residence and it is of `start.ram`,
it must lie where the first lies, so the op writes over it; the op does not read the old content, or
the storage would be among its reads. Requires a schedule that the judge accepts. Ensures: the live
bytes at each position are the judge's (without reserved bytes and without copies written over), and
a storage of `start.ram` begins and ends the step in one block.
"""

from __future__ import annotations

from collections import Counter

from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Schedule
from poet_solvers.addresses.blocks import Block, Holds, Span

BEFORE_FIRST = -1


def blocks_of(graph: TrainingGraph, budget: Budget, schedule: Schedule) -> tuple[Block, ...]:
    """The blocks of a schedule that the judge accepts."""
    walk = _Walk(graph, budget, schedule)
    for position, instruction in enumerate(schedule.instructions):
        walk.step(position, instruction)
    return walk.finish()


class _Walk:
    """`_since[s]` is where the present residence of storage s began."""

    def __init__(self, graph: TrainingGraph, budget: Budget, schedule: Schedule) -> None:
        self._graph, self._budget, self._schedule = graph, budget, schedule
        inputs = [s.id for s in graph.storages if graph.begins_resident(s.id) and not s.persistent]
        start = (*schedule.start_ram, *inputs)
        self._since = dict.fromkeys((s for s in start if self._bytes(s)), BEFORE_FIRST)
        self._residences: dict[int, list[Span]] = {}
        self._blocks: list[Block] = []
        self._runs = Counter(i.target for i in schedule.instructions if i.do is Do.COMPUTE)
        self._first_run: dict[int, int] = {}
        self._done: Counter[int] = Counter()

    def step(self, position: int, instruction: Instruction) -> None:
        if instruction.do is Do.COMPUTE:
            self._compute(position, instruction.target)
        elif instruction.do is Do.PAGE_IN:
            self._since[instruction.target] = position
        elif instruction.do is Do.FREE:
            self._end(instruction.target, position - 1)

    def finish(self) -> tuple[Block, ...]:
        """Close what is resident at the end; tie what must end where it began."""
        last = len(self._schedule.instructions) - 1
        for storage in list(self._since):
            self._end(storage, last)
        cyclic = set(self._schedule.start_ram)
        for storage, spans in sorted(self._residences.items()):
            alone = spans
            if storage in cyclic and len(spans) > 1:
                self._add(Holds.STORAGE, storage, self._bytes(storage), _tied(spans))
                alone = spans[1:-1]
            for span in alone:
                self._add(Holds.STORAGE, storage, self._bytes(storage), (span,))
        return tuple(self._blocks)

    def _compute(self, position: int, op_id: int) -> None:
        op = self._graph.ops[op_id]
        for storage in op.writes:
            if storage in self._since:
                self._end(storage, position)
            if self._bytes(storage):
                self._since[storage] = position
        workspace = self._budget.rounded(op.workspace_bytes)
        self._add(Holds.WORKSPACE, op_id, workspace, ((position, position),))
        self._done[op_id] += 1
        first = self._first_run.setdefault(op_id, position)
        if op.random and 1 < self._runs[op_id] == self._done[op_id]:
            state = self._budget.rounded(self._graph.rng_state_bytes)
            self._add(Holds.GENERATOR, op_id, state, ((first, position),))

    def _end(self, storage: int, last: int) -> None:
        self._residences.setdefault(storage, []).append((self._since.pop(storage), last))

    def _add(self, holds: Holds, target: int, size_bytes: int, spans: tuple[Span, ...]) -> None:
        if size_bytes:
            self._blocks.append(Block(holds, target, size_bytes, spans))

    def _bytes(self, storage: int) -> int:
        return self._budget.rounded(self._graph.storages[storage].size_bytes)


def _tied(spans: list[Span]) -> tuple[Span, ...]:
    """The first and the last residence at one address; one span where one overwrites the other."""
    first, last = spans[0], spans[-1]
    return (first, last) if first[1] < last[0] else ((first[0], last[1]),)
