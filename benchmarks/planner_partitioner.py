"""PyTorch's activation memory budget on our graphs (torch 2.13, _functorch/partitioners.py).

    `choose_saved_values_set`: with the mildest rules ("aggressive_options") only compute-intensive ops
    must not run again; for each budget a 0/1 knapsack (`dp_knapsack`, 10,000 steps) over those ops'
    outputs picks which of them must not after all; a minimum cut then finds what is cheapest to save so
    that the backward pass has its values from what may run again.

The weight of a value in the cut is its bytes x 1.1 ^ (distance to the backward pass), as there. What is
left out is the doubled weight of values that fuse into their users: the judge's costs know no fusion.
Graphs without ATen kinds have no list of compute-intensive ops; there, and as a second variant
everywhere, every forward op counts as one. Costs are the graph's own (FLOPs on ATen graphs, as there).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.planner_passes import Passes
from poet_solvers.occurrences import Sequence

SHARES = tuple(step / 40 for step in range(41))
"""The memory budgets tried: shares of what autograd saves."""

_STEPS = 10_000
_BIAS, _FARTHEST = 1.1, 100
_COMPUTE_INTENSIVE = (
    "aten.mm.",
    "aten.convolution.",
    "aten.bmm.",
    "aten.addmm.",
    "aten._scaled_dot_product",
    "aten.upsample_bilinear2d.",
)


def partitions(passes: Passes) -> Iterator[Sequence]:
    """The step for each memory budget; for the whole of it nothing runs again."""
    cut = _Cut(passes)
    seen = {passes.saved}
    yield passes.run_again(passes.saved, lambda _storage: ())
    dear = frozenset(
        op.id
        for op in passes.graph.ops[: passes.forward_ops]
        if op.kind.startswith(_COMPUTE_INTENSIVE)
    )
    for banned in (dear, frozenset(range(passes.forward_ops))):
        for may_run_again in _knapsacks(passes, banned) if banned else ():
            saved = cut.saved(banned - may_run_again)
            if saved not in seen:
                seen.add(saved)
                yield passes.run_again(saved, lambda _storage: ())


def _knapsacks(passes: Passes, banned: frozenset[int]) -> Iterator[frozenset[int]]:
    """For each share: the banned ops that the knapsack leaves out, so that they may run again."""
    items = sorted(
        (op for op in banned if passes.op_bytes[op]), key=lambda op: -passes.op_bytes[op]
    )
    sizes = [storage.size_bytes for storage in passes.graph.storages]
    all_bytes = max(1, sum(sizes[storage] for storage in passes.saved))
    weights = [round(_STEPS * passes.op_bytes[op] / all_bytes) for op in items]
    worths = [passes.op_flops[op] for op in items]
    best, taken = [0.0] * (_STEPS + 1), list[bytearray]()
    for weight, worth in zip(weights, worths, strict=True):
        picks = bytearray(_STEPS + 1)
        for place in range(_STEPS, weight - 1, -1):
            if best[place - weight] + worth > best[place]:
                best[place], picks[place] = best[place - weight] + worth, 1
        taken.append(picks)
    for share in SHARES:
        place, out = round(share * _STEPS), set[int]()
        for item in reversed(range(len(items))):
            if taken[item][place]:
                place -= weights[item]
            else:
                out.add(items[item])
        yield frozenset(out)


class _Cut:
    """The minimum cut between what must not run again and what the backward pass reads."""

    def __init__(self, passes: Passes) -> None:
        self._passes = passes
        distance = [_FARTHEST] * passes.forward_ops
        for op in reversed(range(passes.forward_ops)):
            for storage in passes.graph.ops[op].writes:
                if passes.backward_uses[storage]:
                    distance[op] = 1
                for use in passes.forward_uses[storage]:
                    distance[op] = min(distance[op], distance[use] + 1)
        self._distance = distance

    def saved(self, banned: frozenset[int]) -> frozenset[int]:
        """What to save where `banned` ops must not run again."""
        import networkx as nx  # as the partitioner itself does

        passes, edges = self._passes, nx.DiGraph()
        edges.add_nodes_from(("source", "sink"))
        for op in passes.graph.ops[: passes.forward_ops]:
            if op.id in banned:
                edges.add_edge("source", ("op", op.id))
            for storage in op.reads:
                if storage in passes.producer:
                    edges.add_edge(("held", storage), ("op", op.id))
            for storage in op.writes:
                self._add_value(edges, op.id, storage)
        _value, (near, far) = nx.minimum_cut(edges, "source", "sink")
        return frozenset(
            storage
            for storage in passes.producer
            if ("made", storage) in near and ("held", storage) in far
        )

    def _add_value(self, edges: Any, op: int, storage: int) -> None:
        size = self._passes.graph.storages[storage].size_bytes
        weight = int(size * _BIAS ** max(min(self._distance[op], _FARTHEST), 1))
        edges.add_edge(("op", op), ("made", storage))
        edges.add_edge(("made", storage), ("held", storage), capacity=weight)
        if self._passes.backward_uses[storage]:
            edges.add_edge(("held", storage), "sink")
