"""Grouping: a pass that merges consecutive ops, so that the model has fewer stages.

    group_graph(graph, budget, groups) -> a graph with one op a group, over the same storages

A storage that lives inside one group only becomes zero bytes there and part of the group's
workspace, which is set so that the group needs exactly its inner peak (with everything that the
group shares with the outside resident all through it). Requires: groups are runs of document order.
Ensures: a schedule of the grouped graph, expanded, is a schedule of the graph with the same
transfers and at most the same RAM; second runs of a group repeat all of its ops.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from poet_core.graph import Op, TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Problem, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedProblem:
    """A problem over groups, and the way back: `groups[g]` are the ops of group g, in order."""

    problem: Problem
    original: Problem
    groups: tuple[tuple[int, ...], ...]

    def expand(self, schedule: Schedule) -> Schedule:
        """A schedule of groups as one of ops, inner storages freed after their last use."""
        instructions: list[Instruction] = []
        for instruction in schedule.instructions:
            if instruction.do is Do.COMPUTE:
                instructions += self._expanded(instruction.target)
            else:
                instructions.append(instruction)
        return replace(schedule, instructions=tuple(instructions))

    def _expanded(self, group: int) -> Iterator[Instruction]:
        graph = self.original.graph
        inner = self.problem.graph.storages
        ops = self.groups[group]
        last_touch = {s: op for op in ops for s in graph.ops[op].touches}
        for op_id in ops:
            yield Instruction(Do.COMPUTE, op_id)
            for storage in graph.ops[op_id].touches:
                hidden = graph.storages[storage].size_bytes and not inner[storage].size_bytes
                if hidden and last_touch[storage] == op_id:
                    yield Instruction(Do.FREE, storage)


def group_problem(problem: Problem, groups: Sequence[Sequence[int]]) -> GroupedProblem:
    """The problem over `groups`: consecutive runs of op ids that together are document order."""
    graph, costs = problem.graph, problem.costs
    ordered = tuple(tuple(group) for group in groups)
    grouped = _group_graph(graph, problem.budget, ordered)

    def summed(by_op: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sum(by_op[op] for op in group) for group in ordered)

    group_costs = replace(
        costs, op_seconds=summed(costs.op_seconds), op_joules=summed(costs.op_joules)
    )
    return GroupedProblem(
        problem=replace(problem, graph=grouped, costs=group_costs), original=problem, groups=ordered
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What a group looks like from outside: its storages, and the RAM that it needs in all."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    mutates: tuple[int, ...]
    need_bytes: int
    inner: frozenset[int]

    @property
    def touches(self) -> tuple[int, ...]:
        return self.reads + self.writes + self.mutates


class Grouper:
    """Chooses groups: merges neighbours where it costs least RAM, until few enough are left."""

    def __init__(self, problem: Problem) -> None:
        graph, budget = problem.graph, problem.budget
        self.graph, self._budget = graph, budget
        self.rounded = [budget.rounded(storage.size_bytes) for storage in graph.storages]
        self._first, self._last = _spans(graph)
        # The judge counts a write onto a resident old version twice: such an op stays alone.
        self.alone = [
            any(graph.versions.gives[op.id][s] > 0 or graph.begins_resident(s) for s in op.writes)
            for op in graph.ops
        ]
        self._mergers: dict[int, _Merger] = {}

    def choose(self, most_groups: int, most_need_bytes: int) -> list[list[int]]:
        """Merge the pair of neighbours whose merging raises the need least, while more than
        `most_groups` are left and the need (without reserved bytes) stays within
        `most_need_bytes`. Goes on from the groups of an earlier call that wanted more of them."""
        merger = self._mergers.get(most_need_bytes)
        if merger is None or merger.count < most_groups:
            merger = self._mergers[most_need_bytes] = _Merger(self, most_need_bytes)
        return merger.shrink_to(most_groups)

    def shape(self, group: Sequence[int]) -> _Shape:
        """How a group of consecutive ops looks from outside."""
        return _shape(self.graph, self._budget, self._first, self._last, group)


class _Merger:
    """Groups in order, each named by its first op, and a heap of what merging two would cost."""

    def __init__(self, grouper: Grouper, most_need_bytes: int) -> None:
        self._grouper, self._most_need_bytes = grouper, most_need_bytes
        ops = grouper.graph.ops
        self._groups = {op.id: [op.id] for op in ops}
        self._shapes = {op.id: grouper.shape([op.id]) for op in ops}
        self._randoms = {op.id: int(op.random) for op in ops}
        self._after: dict[int, int] = {op.id: op.id + 1 for op in ops[:-1]}
        self._before: dict[int, int] = {op.id + 1: op.id for op in ops[:-1]}
        self._heap: list[tuple[int, int, int, int]] = []
        self._offers: dict[int, tuple[int, _Shape]] = {}
        self._offer_count = 0
        for op in ops[:-1]:
            self._offer(op.id)

    @property
    def count(self) -> int:
        """Groups that are left."""
        return len(self._groups)

    def shrink_to(self, most_groups: int) -> list[list[int]]:
        """Merge until `most_groups` are left or none may be merged; the groups, in order."""
        while len(self._groups) > most_groups and self._heap:
            _, _, left, number = heappop(self._heap)
            current = self._offers.get(left)
            if current is not None and current[0] == number:
                self._merge(left, current[1])
        return [list(group) for _, group in sorted(self._groups.items())]

    def _offer(self, left: int) -> None:
        """Put the merging of `left` with its neighbour on the heap, if they may be merged.

        First comes what raises the need least, then what touches least, then what is first.
        """
        self._offers.pop(left, None)
        right = self._after.get(left)
        if right is None or self._grouper.alone[left] or self._grouper.alone[right]:
            return
        # One generator state is held for a group that runs again, so one random op a group.
        if self._randoms[left] + self._randoms[right] > 1:
            return
        shape = self._grouper.shape(self._groups[left] + self._groups[right])
        if shape.need_bytes > self._most_need_bytes:
            return
        # What the smaller of the two now holds up for the time of the larger, and back.
        before, after = self._shapes[left].need_bytes, self._shapes[right].need_bytes
        raised = 2 * shape.need_bytes - before - after
        touched = sum(self._grouper.rounded[storage] for storage in shape.touches)
        self._offer_count += 1
        self._offers[left] = self._offer_count, shape
        heappush(self._heap, (raised, touched, left, self._offer_count))

    def _merge(self, left: int, shape: _Shape) -> None:
        right = self._after[left]
        self._groups[left] += self._groups.pop(right)
        self._shapes[left] = shape
        self._randoms[left] += self._randoms.pop(right)
        self._offers.pop(right, None)
        del self._shapes[right], self._after[left]
        beyond = self._after.pop(right, None)
        if beyond is not None:
            self._after[left], self._before[beyond] = beyond, left
        del self._before[right]
        self._offer(left)
        if left in self._before:
            self._offer(self._before[left])


def _spans(graph: TrainingGraph) -> tuple[dict[int, int], dict[int, int]]:
    """By storage: the first and the last op that touch it."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for op in graph.ops:
        for storage in op.touches:
            first.setdefault(storage, op.id)
            last[storage] = op.id
    return first, last


def _shape(
    graph: TrainingGraph,
    budget: Budget,
    first: dict[int, int],
    last: dict[int, int],
    group: Sequence[int],
) -> _Shape:
    ops = [graph.ops[op_id] for op_id in group]
    lowest, highest = group[0], group[-1]
    touched = list(dict.fromkeys(s for op in ops for s in op.touches))
    written: dict[int, None] = {}
    changed: set[int] = set()
    came_in: set[int] = set()
    for op in ops:
        came_in |= {s for s in op.reads + op.mutates if s not in written}
        written.update(dict.fromkeys(s for s in op.writes if s not in came_in))
        changed |= set(op.mutates) | set(op.writes)
    inner = frozenset(
        s
        for s in written
        if len(group) > 1
        and first[s] >= lowest
        and last[s] <= highest
        and not graph.storages[s].result
        and not graph.begins_resident(s)
    )

    def size(storage: int) -> int:
        return budget.rounded(graph.storages[storage].size_bytes)

    resident = sum(size(s) for s in came_in)
    need = 0
    live = 0
    alive: set[int] = set()
    for op in ops:
        live += sum(size(s) for s in op.writes if s not in alive and s not in came_in)
        alive |= {s for s in op.writes if s not in came_in}
        need = max(need, resident + live + budget.rounded(op.workspace_bytes))
        dead = {s for s in alive & inner if last[s] == op.id}
        live -= sum(size(s) for s in dead)
        alive -= dead
    outside = [s for s in touched if s not in inner]
    return _Shape(
        reads=tuple(s for s in outside if s in came_in and s not in changed),
        mutates=tuple(s for s in outside if s in came_in and s in changed),
        writes=tuple(s for s in touched if s in written),
        need_bytes=need,
        inner=inner,
    )


def _group_graph(
    graph: TrainingGraph, budget: Budget, groups: tuple[tuple[int, ...], ...]
) -> TrainingGraph:
    first, last = _spans(graph)
    shapes = [_shape(graph, budget, first, last, group) for group in groups]
    inner = frozenset(s for shape in shapes for s in shape.inner)
    storages = tuple(
        replace(storage, size_bytes=0) if storage.id in inner else storage
        for storage in graph.storages
    )
    ops = []
    for group_id, (group, shape) in enumerate(zip(groups, shapes, strict=True)):
        members = [graph.ops[op_id] for op_id in group]
        outside = sum(budget.rounded(storages[s].size_bytes) for s in shape.touches)
        ops.append(
            Op(
                id=group_id,
                name=f"{members[0].name}..{members[-1].name}" if members[1:] else members[0].name,
                kind="group" if members[1:] else members[0].kind,
                phase=members[-1].phase,
                reads=shape.reads,
                writes=shape.writes,
                mutates=shape.mutates,
                flops=sum(op.flops for op in members),
                bytes_moved=sum(op.bytes_moved for op in members),
                workspace_bytes=max(0, shape.need_bytes - outside),
                recomputable=all(op.recomputable for op in members),
                random=any(op.random for op in members),
            )
        )
    return replace(graph, storages=storages, ops=tuple(ops))
