"""POET's own graph: one output storage a node, costs in joules; as its program builds it.

Invariant: nodes are numbered 0 .. n-1 in their execution order, every edge goes from a lower to a
higher number, and every number is finite and not negative.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from poet_core.errors import DocumentError, GraphError


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedNode:
    """One layer: the size of its output, what computing and moving that output costs."""

    bytes: int
    seconds: float
    compute_joules: float
    page_in_joules: float
    page_out_joules: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedGraph:
    """Nodes in execution order; an edge (i, k) says that node k reads the output of node i."""

    nodes: tuple[PublishedNode, ...]
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise GraphError("A graph needs at least one node, got none.")
        for number, node in enumerate(self.nodes):
            _check_node(number, node)
        for source, target in self.edges:
            if not 0 <= source < target < len(self.nodes):
                raise GraphError(
                    f"Edge ({source}, {target}) must go from a lower to a higher node number "
                    f"below {len(self.nodes)}.",
                    hint="List the nodes in execution order.",
                )
        if len(set(self.edges)) != len(self.edges):
            raise GraphError("An edge is listed twice.", hint="List each edge once.")

    @property
    def total_seconds(self) -> float:
        """Run time of computing every node once: the base of POET's run-time budgets."""
        return math.fsum(node.seconds for node in self.nodes)


def read_published_graph(text: str) -> PublishedGraph:
    """Reads the JSON that `instances/poet` holds: {"nodes": [...], "edges": [[i, k], ...]}.

    Raises DocumentError where the text has another shape, GraphError where its numbers contradict
    each other.
    """
    try:
        document = json.loads(text)
        nodes = tuple(_node(entry) for entry in document["nodes"])
        edges = tuple((int(source), int(target)) for source, target in document["edges"])
    except (ValueError, KeyError, TypeError) as error:
        raise DocumentError(
            f"Not a POET instance: {type(error).__name__}: {error}.",
            hint='Expected {"nodes": [{"bytes", "seconds", ...}], "edges": [[from, to], ...]}.',
        ) from error
    return PublishedGraph(nodes=nodes, edges=edges)


def unit_chain(half: int, *, page_joules: float) -> PublishedGraph:
    """The chain 0 .. 2n of n = `half` forward nodes, their turn and n backward nodes.

    Node 2n-i also reads node i. Every node weighs one byte and costs one joule; a transfer costs
    `page_joules` in either direction; nothing takes time.
    """
    node = PublishedNode(
        bytes=1,
        seconds=0.0,
        compute_joules=1.0,
        page_in_joules=page_joules,
        page_out_joules=page_joules,
    )
    chain = [(i, i + 1) for i in range(2 * half)]
    across = [(i, 2 * half - i) for i in range(half)]
    edges: Iterable[tuple[int, int]] = dict.fromkeys(chain + across)  # n-1 -> n+1 is across only
    return PublishedGraph(nodes=(node,) * (2 * half + 1), edges=tuple(edges))


def _node(entry: dict[str, float]) -> PublishedNode:
    if not isinstance(entry["bytes"], int):
        raise TypeError(f"bytes must be an integer, got {entry['bytes']!r}")
    return PublishedNode(
        bytes=entry["bytes"],
        seconds=float(entry["seconds"]),
        compute_joules=float(entry["compute_joules"]),
        page_in_joules=float(entry["page_in_joules"]),
        page_out_joules=float(entry["page_out_joules"]),
    )


def _check_node(number: int, node: PublishedNode) -> None:
    for field in ("bytes", "seconds", "compute_joules", "page_in_joules", "page_out_joules"):
        value = getattr(node, field)
        if not (math.isfinite(value) and value >= 0):
            raise GraphError(f"Node {number}: {field} must be finite and >= 0, got {value}.")
