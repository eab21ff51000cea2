"""A step as autograd sees it: a forward pass, then a backward pass (and updates) that need its values.

Invariant: the forward pass is the ops 0 .. forward_ops - 1. What it makes once and for all (by an op
that may not run again, or for an update) is in `fixed`, which every schedule keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poet_core.graph import Phase, TrainingGraph
from poet_solvers.occurrences import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """`producer`: the forward op that writes a storage. `*_uses`: the ops that read it, ascending.
    `saved`: what the forward pass makes and the backward pass reads. `fixed`: what is
    always kept. `crossing_bytes[c]`: bytes that forward ops before c make for forward ops from c on.
    `op_bytes`, `op_flops`: by forward op."""

    graph: TrainingGraph
    forward_ops: int
    producer: dict[int, int]
    forward_uses: dict[int, tuple[int, ...]]
    backward_uses: dict[int, tuple[int, ...]]
    fixed: frozenset[int]
    crossing_bytes: tuple[int, ...]
    op_bytes: tuple[int, ...]
    op_flops: tuple[float, ...]

    @property
    def saved(self) -> frozenset[int]:
        """The storages that autograd saves for the backward pass."""
        return frozenset(storage for storage, uses in self.backward_uses.items() if uses)

    @property
    def start_ram(self) -> frozenset[int]:
        """Persistent storages, which stay in RAM all step."""
        return frozenset(s.id for s in self.graph.storages if s.persistent and s.size_bytes)

    def run_again(self, kept: frozenset[int], together: Callable[[int], Iterable[int]]) -> Sequence:
        """The step where only `kept` is held into the backward pass: a backward op that needs another
        forward value first runs again what makes it and everything in `together(value)`."""
        ops = self.graph.ops
        runs = [(op, op) for op in range(self.forward_ops)]
        number = len(ops)
        here = set(kept | self.fixed)
        for op in ops[self.forward_ops :]:
            needed = (*op.reads, *op.mutates)
            missing = [s for s in needed if s in self.producer and s not in here]
            wanted = {other for storage in missing for other in (storage, *together(storage))}
            for again in self._makers(wanted, here):
                runs.append((number, again))
                number += 1
                here.update(ops[again].writes)
            runs.append((op.id, op.id))
        return Sequence(runs=tuple(runs), paged=frozenset(), start_ram=self.start_ram)

    def _makers(self, wanted: Iterable[int], here: set[int]) -> list[int]:
        """The forward ops that bring `wanted` from what is here, in document order."""
        makers: set[int] = set()
        stack = [storage for storage in wanted if storage not in here]
        while stack:
            op = self.producer[stack.pop()]
            if op in makers:
                continue
            makers.add(op)
            reads = self.graph.ops[op].reads
            stack += [s for s in reads if s in self.producer and s not in here]
        return sorted(makers)


def read_passes(graph: TrainingGraph, forward_ops: int | None = None) -> Passes | None:
    """None where the graph is no forward pass followed by a backward pass. `forward_ops` says where a
    graph without phases turns."""
    count = _forward_ops(graph) if forward_ops is None else forward_ops
    if not 0 < count < len(graph.ops):
        return None
    producer = {storage: op.id for op in graph.ops[:count] for storage in op.writes}
    uses: dict[int, list[int]] = {storage: [] for storage in producer}
    for op in graph.ops:
        for storage in (*op.reads, *op.mutates):
            if storage in producer:
                uses[storage].append(op.id)
    forward = {s: tuple(op for op in ops if op < count) for s, ops in uses.items()}
    sizes = [storage.size_bytes for storage in graph.storages]
    crossing = [0] * (count + 1)
    for storage, users in forward.items():
        for place in range(producer[storage] + 1, max(users, default=-1) + 1):
            crossing[place] += sizes[storage]
    return Passes(
        graph=graph,
        forward_ops=count,
        producer=producer,
        forward_uses=forward,
        backward_uses={s: tuple(op for op in ops if op >= count) for s, ops in uses.items()},
        fixed=_fixed(graph, count),
        crossing_bytes=tuple(crossing),
        op_bytes=tuple(sum(sizes[s] for s in op.writes) for op in graph.ops[:count]),
        op_flops=tuple(float(max(1, op.flops)) for op in graph.ops[:count]),
    )


def turn(graph: TrainingGraph) -> int:
    """Where a training step without phases turns: the op before which most storages are awaited. Any
    place would give valid schedules, this one gives the schedules that are meant."""
    made: dict[int, int] = {}
    last: dict[int, int] = {}
    for op in graph.ops:
        made.update((storage, op.id) for storage in op.writes if storage not in made)
        last.update((storage, op.id) for storage in (*op.reads, *op.mutates))
    change = [0] * (len(graph.ops) + 1)
    for storage, op_id in made.items():
        if last.get(storage, op_id) > op_id:
            change[op_id + 1] += 1
            change[last[storage] + 1] -= 1
    awaited, most, place = 0, 0, 0
    for position, step in enumerate(change):
        awaited += step
        if awaited > most:
            most, place = awaited, position
    return place


def _forward_ops(graph: TrainingGraph) -> int:
    phases = [op.phase for op in graph.ops]
    count = phases.index(Phase.BACKWARD) if Phase.BACKWARD in phases else 0
    return 0 if Phase.FORWARD in phases[count:] else count


def _fixed(graph: TrainingGraph, count: int) -> frozenset[int]:
    """What is made once: by ops that may not run again, and what an update takes (new statistics of a
    BatchNorm): it leaves the forward pass as a result."""
    ops = graph.ops[:count]
    changes = Counter(storage for op in ops for storage in (*op.writes, *op.mutates))
    changed = {
        s for s, times in changes.items() if times > 1 or (times and graph.begins_resident(s))
    }
    once = (
        op for op in ops if op.mutates or not op.recomputable or not changed.isdisjoint(op.touches)
    )
    made_once = {storage for op in once for storage in op.writes}
    made = {storage for op in ops for storage in op.writes}
    taken = {s for op in graph.ops[count:] if op.phase is Phase.UPDATE for s in op.reads}
    return frozenset(made_once | (made & taken))
