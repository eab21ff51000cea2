"""The projection graph (Ravi 2017, Figure 3): examples, projection nodes, and edges between these.

    example i ── node (t, v): block t of its bits reads v ── w ── node (t, u): another value of block t

    w = 1 - Hamming(v, u) / d, for all pairs of nodes of one function within `radius` bits

Edges are found through buckets and never by comparing all pairs: the d bits of a block are cut into
radius + 1 bands, and two values within `radius` bits agree in at least one band (a pigeonhole), so
only nodes of one bucket (function, band, the band's bits) are compared, each with at most
`bucket_limit` others. Invariant: every edge that is there is exact; none is missing while
`cut_buckets` is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.packing import Bytes, unpack
from projection_nets.spec import ProjectionSpec

Numbers = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]

_LARGEST_BLOCK = 62  # bits of a block as one non-negative int64


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionGraph:
    """`node_function`, `node_value` (nodes,): which block a node is of and what it reads, bit j
    counting 2^j. `example_nodes` (examples, T): the node of each block. `edges` (edges, 2): pairs of
    nodes, the lower number first; `edge_weights` (edges,). `cut_buckets`: buckets that were larger
    than what is compared."""

    bits: int
    node_function: Numbers
    node_value: Numbers
    example_nodes: Numbers
    edges: Numbers
    edge_weights: Weights
    cut_buckets: int


def projection_graph(
    packed: Bytes, spec: ProjectionSpec, *, radius: int = 1, bucket_limit: int = 64
) -> ProjectionGraph:
    """The graph of examples from their packed bits (`packing.packed_bits`), (examples, bytes).

    Time and memory grow with examples x T and with nodes x bucket_limit. Raises UsageError
    (`graph_options_invalid`).
    """
    _check(packed, spec, radius, bucket_limit)
    blocks = block_values(packed, spec)
    functions, values, edges, weights, members, cut = [], [], [], [], [], 0
    first = 0
    for function in range(spec.functions):
        of_function, node_of = np.unique(blocks[:, function], return_inverse=True)
        pairs, distances, cut_here = close_pairs(of_function, spec.bits, radius, bucket_limit)
        functions.append(np.full(len(of_function), function))
        values.append(of_function)
        members.append(node_of.reshape(-1) + first)
        edges.append(pairs + first)
        weights.append((1 - distances / spec.bits).astype(np.float32))
        cut += cut_here
        first += len(of_function)
    return ProjectionGraph(
        bits=spec.bits,
        node_function=np.concatenate(functions),
        node_value=np.concatenate(values),
        example_nodes=np.stack(members, axis=1),
        edges=np.concatenate(edges),
        edge_weights=np.concatenate(weights),
        cut_buckets=cut,
    )


def block_values(packed: Bytes, spec: ProjectionSpec) -> Numbers:
    """(examples, T): each block of d bits as a number, bit j counting 2^j."""
    bits = unpack(packed, spec.projected_bits)
    powers = np.int64(1) << np.arange(spec.bits, dtype=np.int64)
    columns = [
        bits[:, start : start + spec.bits].astype(np.int64) @ powers
        for start in range(0, spec.projected_bits, spec.bits)  # one function's bits at a time
    ]
    return np.stack(columns, axis=1)


def close_pairs(
    values: Numbers, bits: int, radius: int, bucket_limit: int
) -> tuple[Numbers, Numbers, int]:
    """Pairs of positions whose values differ in at most `radius` bits, their distances, cut buckets.

    `values` are distinct, of `bits` bits. Pairs are sorted, the lower position first.
    """
    count = len(values)
    found, cut = [np.empty(0, dtype=np.int64)], 0
    bounds = [bits * band // (radius + 1) for band in range(radius + 2)]
    for low, high in pairwise(bounds):
        keys = (values >> low) & ((1 << (high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        sizes = np.unique(sorted_keys, return_counts=True)[1]
        cut += int((sizes > bucket_limit + 1).sum())
        # each with the next in its bucket, then with the one after, ...
        for step in range(1, min(bucket_limit, int(sizes.max()) - 1) + 1):
            together = np.nonzero(sorted_keys[step:] == sorted_keys[:-step])[0]
            one, other = order[together], order[together + step]
            close = np.bitwise_count(values[one] ^ values[other]) <= radius
            lower = np.minimum(one[close], other[close])
            found.append(lower * count + np.maximum(one[close], other[close]))
    keys = np.unique(np.concatenate(found))  # a pair can agree in more than one band
    pairs = np.stack([keys // count, keys % count], axis=1)
    distances = np.bitwise_count(values[pairs[:, 0]] ^ values[pairs[:, 1]]).astype(np.int64)
    return pairs, distances, cut


def _check(packed: Bytes, spec: ProjectionSpec, radius: int, bucket_limit: int) -> None:
    wrong = None
    if packed.ndim != 2 or packed.shape[1] != spec.packed_bytes or not len(packed):
        wrong = f"packed bits of (examples, {spec.packed_bytes}), got {packed.shape}"
    elif spec.bits > _LARGEST_BLOCK:
        wrong = f"blocks of at most {_LARGEST_BLOCK} bits, got {spec.bits}"
    elif not 0 <= radius < spec.bits:
        wrong = f"a radius of 0..{spec.bits - 1} bits, got {radius}"
    elif bucket_limit < 1:
        wrong = f"a bucket_limit of at least 1, got {bucket_limit}"
    if wrong:
        raise UsageError(
            f"Expected {wrong}.",
            code="graph_options_invalid",
            hint="Pack the bits with the same spec; a small radius keeps the graph small.",
        )
