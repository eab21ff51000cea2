"""Who is near whom: each example's nearest others by way of the projection graph.

    example i ── node of block t ── the same or a linked node ── a member of it: a candidate

Each block gives `probes` candidates, so an example meets at most T x probes others however many
there are. Of these the `count` with the largest weight stay:

    weight(i, j) = mean over the blocks of (1 - Hamming / d) = 1 - Hamming(all bits) / (T d)

which estimates 1 - angle / pi (Theorem 1). Invariant: a function of graph, bits and seed alone; no
example is its own neighbour except with weight 0, which fills a row that has too few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.hashing import random_words
from projection_nets.packing import Bytes
from projection_nets.projection_graph import Numbers, ProjectionGraph, Weights

_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """`index` (examples, count): positions of others, the nearest first; `weight` alike, 0..1."""

    index: Numbers
    weight: Weights

    def agreement(self, labels: npt.NDArray[np.integer]) -> float:
        """The share of neighbours of the same class, by weight: how much the graph knows of labels."""
        same = labels[self.index] == labels[:, None]
        return float((self.weight * same).sum() / max(float(self.weight.sum()), 1e-30))


def neighbours(
    graph: ProjectionGraph,
    packed: Bytes,
    *,
    count: int = 8,
    probes: int = 4,
    least_weight: float = 0.5,
    seed: int = 0,
) -> Neighbours:
    """The nearest of each example. `least_weight`: what is further counts for nothing; at 0.5 two
    examples are as far apart as strangers. Raises UsageError (`graph_options_invalid`)."""
    functions = graph.example_nodes.shape[1]
    if count < 1 or probes < 1 or count > probes * functions or not 0 <= least_weight <= 1:
        raise UsageError(
            f"Expected 1..{max(probes, 1) * functions} neighbours of {functions} x probes "
            f"candidates and a least weight in 0..1, got {count}, {probes} and {least_weight}.",
            code="graph_options_invalid",
            hint="Ask for fewer neighbours or for more probes.",
        )
    candidates = _candidates(graph, probes, seed)
    total_bits = functions * graph.bits
    index = np.empty((len(packed), count), dtype=np.int64)
    weight = np.empty((len(packed), count), dtype=np.float32)
    for start in range(0, len(packed), _ROWS_AT_A_TIME):
        rows = np.arange(start, min(start + _ROWS_AT_A_TIME, len(packed)))
        chosen = np.sort(candidates[rows], axis=1)
        different = np.bitwise_count(packed[rows][:, None] ^ packed[chosen]).sum(
            axis=2, dtype=np.int64
        )
        useless = chosen == rows[:, None]
        useless[:, 1:] |= chosen[:, 1:] == chosen[:, :-1]  # met before
        useless |= different > (1 - least_weight) * total_bits
        different[useless] = total_bits + 1
        nearest = np.argsort(different, axis=1, kind="stable")[:, :count]
        lost = np.take_along_axis(useless, nearest, axis=1)
        distances = np.take_along_axis(different, nearest, axis=1)
        found = np.take_along_axis(chosen, nearest, axis=1)
        index[rows] = np.where(lost, rows[:, None], found)
        weight[rows] = np.where(lost, 0, 1 - distances / total_bits)
    return Neighbours(index=index, weight=weight)


def _candidates(graph: ProjectionGraph, probes: int, seed: int) -> Numbers:
    """(examples, T * probes): random members of each block's node and of the nodes linked to it."""
    count, functions = graph.example_nodes.shape
    nodes = len(graph.node_value)
    members = np.argsort(graph.example_nodes.T.reshape(-1), kind="stable") % count
    sizes = np.bincount(graph.example_nodes.reshape(-1), minlength=nodes)
    first_member = np.cumsum(sizes) - sizes
    # every node is linked to itself, first
    sources = np.concatenate([np.arange(nodes), graph.edges[:, 0], graph.edges[:, 1]])
    targets = np.concatenate([np.arange(nodes), graph.edges[:, 1], graph.edges[:, 0]])
    linked = targets[np.argsort(sources, kind="stable")]
    links = np.bincount(sources, minlength=nodes)
    first_link = np.cumsum(links) - links
    found = np.empty((count, functions * probes), dtype=np.int64)
    for function in range(functions):
        own = graph.example_nodes[:, function]
        for probe in range(probes):
            column = function * probes + probe
            words = random_words(seed, column, np.arange(count, dtype=np.uint64))
            draw, other_draw = (
                (words >> np.uint64(33)).astype(np.int64),
                (words & np.uint64(2**31 - 1)).astype(np.int64),
            )
            # the first probe stays in the example's own node
            node = own if probe == 0 else linked[first_link[own] + draw % links[own]]
            found[:, column] = members[first_member[node] + other_draw % sizes[node]]
    return found
