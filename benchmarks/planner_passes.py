"""A published graph as autograd sees it: a forward pass, then a backward pass that needs its values.

Invariant: the forward pass is the ops 0 .. forward_ops - 1 and mutates nothing, so that any of its ops
may run again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from poet_core.graph import Phase, TrainingGraph
from poet_solvers.occurrences import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """`producer`: the forward op that writes a storage. `*_uses`: the ops that read it, ascending.
    `saved`: what the forward pass makes and the backward pass reads. `crossing_bytes[c]`: bytes that
    forward ops before c make for forward ops from c on. `op_bytes`, `op_flops`: by forward op."""

    graph: TrainingGraph
    forward_ops: int
    producer: dict[int, int]
    forward_uses: dict[int, tuple[int, ...]]
    backward_uses: dict[int, tuple[int, ...]]
    crossing_bytes: tuple[int, ...]
    op_bytes: tuple[int, ...]
    op_flops: tuple[float, ...]

    @property
    def saved(self) -> frozenset[int]:
        """The storages that autograd saves for the backward pass."""
        return frozenset(storage for storage, uses in self.backward_uses.items() if uses)

    def run_again(self, kept: frozenset[int], together: Callable[[int], Iterable[int]]) -> Sequence:
        """The step where only `kept` is held into the backward pass: a backward op that needs another
        forward value first runs again what makes it and everything in `together(value)`."""
        ops = self.graph.ops
        runs = [(op, op) for op in range(self.forward_ops)]
        number = len(ops)
        here = set(kept)
        for op in ops[self.forward_ops :]:
            missing = [s for s in op.reads if s in self.producer and s not in here]
            wanted = {other for storage in missing for other in (storage, *together(storage))}
            for again in self._makers(wanted, here):
                runs.append((number, again))
                number += 1
                here.update(ops[again].writes)
            runs.append((op.id, op.id))
        persistent = (s.id for s in self.graph.storages if s.persistent and s.size_bytes)
        return Sequence(runs=tuple(runs), paged=frozenset(), start_ram=frozenset(persistent))

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


def read_passes(graph: TrainingGraph) -> Passes | None:
    """None where the graph is no forward pass followed by a backward pass, or mutates storages."""
    phases = [op.phase for op in graph.ops]
    count = phases.index(Phase.BACKWARD) if Phase.BACKWARD in phases else 0
    if not count or Phase.FORWARD in phases[count:] or any(op.mutates for op in graph.ops):
        return None
    producer = {storage: op.id for op in graph.ops[:count] for storage in op.writes}
    uses: dict[int, list[int]] = {storage: [] for storage in producer}
    for op in graph.ops:
        for storage in op.reads:
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
        crossing_bytes=tuple(crossing),
        op_bytes=tuple(sum(sizes[s] for s in op.writes) for op in graph.ops[:count]),
        op_flops=tuple(float(max(1, op.flops)) for op in graph.ops[:count]),
    )
