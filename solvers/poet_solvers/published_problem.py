"""POET's own graphs as problems of this project: the same costs, under the judge's rules.

    node i                     op i, and storage i that it writes
    edge (i, k)                op k reads storage i
    joules of a node           joules of the op, of a page_in and of a page_out of its storage
    seconds of a node          seconds of the op; transfers take none
    RAM bytes, run-time ratio  Budget (bytes as they are: alignment 1), ratio x the seconds of every op

Invariant: what POET's model forbids to save anything by is forbidden here too: ops keep their order
and only the last node's output must be there at the end. What the judge counts and POET does not is
counted: a page_in needs its room at once (`docs/formulation.md`).
"""

from __future__ import annotations

import math

from poet_core.costs import Costs
from poet_core.errors import BudgetError, UsageError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Problem
from poet_solvers.published_graph import PublishedGraph


def published_problem(
    graph: PublishedGraph,
    *,
    ram_bytes: int,
    time_ratio: float | None = None,
    paging: bool = True,
    rematerialization: bool = True,
    name: str = "",
) -> Problem:
    """The problem of least joules with at most `ram_bytes` of RAM at any moment.

    Takes what `solve_published` takes, and refuses the same: BudgetError for a budget below zero,
    UsageError for a time ratio that is not a positive number.
    """
    if ram_bytes < 0:
        raise BudgetError(f"The RAM budget must be 0 or more bytes, got {ram_bytes}.")
    if time_ratio is not None and not 0 < time_ratio < math.inf:
        raise UsageError(f"time_ratio must be a positive number, got {time_ratio}.")
    return Problem(
        graph=_training_graph(graph, name),
        costs=_costs(graph),
        budget=Budget(
            ram_bytes=ram_bytes,
            step_seconds=None if time_ratio is None else time_ratio * graph.total_seconds,
        ),
        allowed=Allowed(page=paging, rematerialize=rematerialization, reorder=False),
    )


def _training_graph(graph: PublishedGraph, name: str) -> TrainingGraph:
    """POET does not say which nodes are the backward pass, so every op is of the forward one."""
    reads: list[list[int]] = [[] for _ in graph.nodes]
    for source, target in graph.edges:
        reads[target].append(source)
    last = len(graph.nodes) - 1
    return TrainingGraph(
        name=name,
        storages=tuple(
            Storage(
                id=number,
                name=f"node {number}",
                size_bytes=node.bytes,
                role=Role.ACTIVATION,
                result=number == last,
            )
            for number, node in enumerate(graph.nodes)
        ),
        ops=tuple(
            Op(
                id=number,
                name=f"node {number}",
                kind="node",
                phase=Phase.FORWARD,
                reads=tuple(sorted(reads[number])),
                writes=(number,),
            )
            for number in range(len(graph.nodes))
        ),
    )


def _costs(graph: PublishedGraph) -> Costs:
    nodes = graph.nodes
    nothing = (0.0,) * len(nodes)
    return Costs(
        op_seconds=tuple(node.seconds for node in nodes),
        op_joules=tuple(node.compute_joules for node in nodes),
        page_in_seconds=nothing,
        page_in_joules=tuple(node.page_in_joules for node in nodes),
        page_out_seconds=nothing,
        page_out_joules=tuple(node.page_out_joules for node in nodes),
    )
