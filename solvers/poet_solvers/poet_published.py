"""POET's own answers: its published model, solved and checked, for reproducing POET's own optima.

Not for planning: the model's known faults are kept (paging takes no time, a page-in is not counted
until the next stage, the input is "recomputed" for free; `poet_milp` is the corrected one). The
table from the paper's symbols to our names is in `published_model`.

Invariant: a solution's energy, seconds and peak are summed here from its cells, bytes exactly; one
that is over the budget, by however little, is FAILED and not a solution.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import pulp

from poet_solvers.backends import BackendName, BackendResult, SolveLimits, SolveStatus, solve_model
from poet_solvers.published_graph import PublishedGraph
from poet_solvers.published_model import Cell, PublishedModel, published_model


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedSolution:
    """What a solver found: the cells (stage, node) that are 1, none of them without a solution.

    `bound_joules` is the solver's claim. INFEASIBLE means "none in POET's model"; FAILED also an
    answer whose exact peak is over the budget, which solvers' tolerances can let pass.
    """

    status: SolveStatus
    energy_joules: float | None
    bound_joules: float | None
    compute_seconds: float | None
    peak_bytes: int | None
    computed: frozenset[Cell]
    in_ram: frozenset[Cell]
    in_flash: frozenset[Cell]
    paged_in: frozenset[Cell]
    paged_out: frozenset[Cell]
    backend: BackendResult


def solve_published(
    graph: PublishedGraph,
    *,
    ram_bytes: int,
    time_ratio: float | None = None,
    paging: bool = True,
    rematerialization: bool = True,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    warm_start: Mapping[str, float] | None = None,
    cancel: threading.Event | None = None,
) -> PublishedSolution:
    """Solves POET's model: least joules with at most `ram_bytes` of RAM at any moment.

    The compute seconds, recomputation included, are at most `time_ratio` times computing every
    node once (None: no limit). Raises as `published_model` and `solve_model` do.
    """
    model = published_model(
        graph,
        ram_bytes=ram_bytes,
        time_ratio=time_ratio,
        paging=paging,
        rematerialization=rematerialization,
    )
    result = solve_model(
        model.problem, backend=backend, limits=limits, warm_start=warm_start, cancel=cancel
    )
    return _solution(graph, model, ram_bytes, result)


def peak_bytes(graph: PublishedGraph, *, computed: frozenset[Cell], in_ram: frozenset[Cell]) -> int:
    """The exact peak as POET counts it, replayed from what is computed and what is kept.

    Within a stage nodes run in order of their number; an output is freed after its last reader of
    the stage when the next stage does not keep it; page-ins are not counted before the next stage.
    """
    readers: dict[int, list[int]] = {i: [] for i in range(len(graph.nodes))}
    for i, k in graph.edges:
        readers[i].append(k)
    peak = 0
    for t in range(len(graph.nodes)):
        used = sum(graph.nodes[i].bytes for i in range(t) if (t, i) in in_ram)
        peak = max(peak, used)
        last_reader = {
            i: max((k for k in readers[i] if (t, k) in computed), default=None) for i in range(t)
        }
        for k in range(t + 1):
            if (t, k) not in computed:
                continue
            used += graph.nodes[k].bytes
            peak = max(peak, used)
            gone = [i for i, last in last_reader.items() if last == k and (t + 1, i) not in in_ram]
            used -= sum(graph.nodes[i].bytes for i in gone)
    return peak


def _solution(
    graph: PublishedGraph, model: PublishedModel, ram_bytes: int, result: BackendResult
) -> PublishedSolution:
    def ones(table: Mapping[Cell, pulp.LpVariable]) -> frozenset[Cell]:
        return frozenset(cell for cell, variable in table.items() if result.values[variable.name])

    if not result.status.has_solution:
        return _no_solution(result.status, result)
    nodes = graph.nodes
    computed, in_ram, in_flash = map(ones, (model.computed, model.in_ram, model.in_flash))
    paged_in, paged_out = map(ones, (model.paged_in, model.paged_out))
    peak = peak_bytes(graph, computed=computed, in_ram=in_ram)
    if peak > ram_bytes:
        return _no_solution(SolveStatus.FAILED, result)
    return PublishedSolution(
        status=result.status,
        energy_joules=math.fsum(
            [nodes[i].compute_joules for _, i in computed]
            + [nodes[i].page_in_joules for _, i in paged_in]
            + [nodes[i].page_out_joules for _, i in paged_out]
        ),
        bound_joules=result.bound,
        compute_seconds=math.fsum(nodes[i].seconds for _, i in computed),
        peak_bytes=peak,
        computed=computed,
        in_ram=in_ram,
        in_flash=in_flash,
        paged_in=paged_in,
        paged_out=paged_out,
        backend=result,
    )


def _no_solution(status: SolveStatus, result: BackendResult) -> PublishedSolution:
    none: frozenset[Cell] = frozenset()
    return PublishedSolution(
        status=status,
        energy_joules=None,
        bound_joules=None if status is SolveStatus.FAILED else result.bound,
        compute_seconds=None,
        peak_bytes=None,
        computed=none,
        in_ram=none,
        in_flash=none,
        paged_in=none,
        paged_out=none,
        backend=result,
    )
