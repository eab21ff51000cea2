"""POET's mixed-integer program, constraint for constraint as published (ICML 2022, section 4).

Stage t is the stretch of the program in which node t runs for the first time. With n nodes:

    paper       here                   meaning                                       paper's limits
    R[t,i]      computed[t, i]         node i is computed in stage t                 i <= t, R[t,t] = 1
    S_ram[t,i]  in_ram[t, i]           output i is in RAM when stage t begins        i < t
    S_sd[t,i]   in_flash[t, i]         output i is in flash when stage t begins      i < t
    M_in[t,i]   paged_in[t, i]         output i is copied to RAM during stage t      M_in <= S_sd
    M_out[t,i]  paged_out[t, i]        output i is copied to flash during stage t    M_out <= S_ram
    Free[t,e]   freed[t, (i, k)]       output i is freed after computing k in t      k <= t
    U[t,k]      used[t, k]             bytes in RAM just after computing k in t      0 <= U <= budget

What differs from the published program is only what cannot differ in value: variables that its
constraints force to 0 or 1 do not exist here (the paper's "limits" above), and bytes are counted in
units of their greatest common divisor, the budget rounded down, so that a budget missed by one byte
of thirty million is missed by a whole unit and not by a solver's tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pulp

from poet_core.errors import BudgetError, PlanningError, UsageError
from poet_solvers.published_graph import PublishedGraph

# The model grows with the square of the nodes: 150 nodes are about 90,000 variables and 130,000
# rows, the most that CBC read and presolved in seconds here.
MAX_NODES = 150

Cell = tuple[int, int]
FreeCell = tuple[int, Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """The PuLP model and its variables by (stage, node); a missing cell is 0."""

    problem: pulp.LpProblem
    computed: Mapping[Cell, pulp.LpVariable]
    in_ram: Mapping[Cell, pulp.LpVariable]
    in_flash: Mapping[Cell, pulp.LpVariable]
    paged_in: Mapping[Cell, pulp.LpVariable]
    paged_out: Mapping[Cell, pulp.LpVariable]


def published_model(
    graph: PublishedGraph,
    *,
    ram_bytes: int,
    time_ratio: float | None = None,
    paging: bool = True,
    rematerialization: bool = True,
) -> PublishedModel:
    """Builds the model, unsolved.

    Raises PlanningError (`model_too_large`) above MAX_NODES, BudgetError for a budget below zero
    and UsageError for a time ratio that is not a positive number.
    """
    _check(graph, ram_bytes, time_ratio)
    problem = pulp.LpProblem("poet_published", pulp.LpMinimize)
    stages = range(len(graph.nodes))
    earlier = [(t, i) for t in stages for i in range(t)]
    pageable = earlier if paging else []
    computed = _binaries(problem, "R", earlier if rematerialization else [])
    for t in stages:
        computed[t, t] = problem.add_variable(f"R_{t}_{t}", 1, 1, pulp.LpInteger)
    model = PublishedModel(
        problem=problem,
        computed=computed,
        in_ram=_binaries(problem, "Sram", earlier),
        in_flash=_binaries(problem, "Ssd", pageable),
        paged_in=_binaries(problem, "Min", pageable),
        paged_out=_binaries(problem, "Mout", pageable),
    )
    _set_objective(graph, model)
    _add_dependencies(graph, model)
    _add_residency(model)
    _add_memory(graph, model, ram_bytes)
    if time_ratio is not None:
        _add_run_time(graph, model, time_ratio)
    return model


def _check(graph: PublishedGraph, ram_bytes: int, time_ratio: float | None) -> None:
    if len(graph.nodes) > MAX_NODES:
        raise PlanningError(
            f"POET's published model takes at most {MAX_NODES} nodes here, got {len(graph.nodes)}.",
            code="model_too_large",
            hint="It grows with the square of the nodes; use the planner's own models instead.",
            details={"nodes": len(graph.nodes), "max_nodes": MAX_NODES},
        )
    if ram_bytes < 0:
        raise BudgetError(f"The RAM budget must be 0 or more bytes, got {ram_bytes}.")
    if time_ratio is not None and not 0 < time_ratio < math.inf:
        raise UsageError(f"time_ratio must be a positive number, got {time_ratio}.")


def _binaries(
    problem: pulp.LpProblem, symbol: str, cells: Iterable[Cell]
) -> dict[Cell, pulp.LpVariable]:
    return {(t, i): problem.add_variable(f"{symbol}_{t}_{i}", cat=pulp.LpBinary) for t, i in cells}


def _set_objective(graph: PublishedGraph, model: PublishedModel) -> None:
    nodes = graph.nodes
    model.problem.setObjective(
        pulp.LpAffineExpression(
            [(variable, nodes[i].compute_joules) for (_, i), variable in model.computed.items()]
            + [(variable, nodes[i].page_in_joules) for (_, i), variable in model.paged_in.items()]
            + [(variable, nodes[i].page_out_joules) for (_, i), variable in model.paged_out.items()]
        )
    )


def _add_dependencies(graph: PublishedGraph, model: PublishedModel) -> None:
    """A node is computed only where each of its inputs is resident or computed before it."""
    for i, k in graph.edges:
        for t in range(k, len(graph.nodes)):
            if (t, k) in model.computed:
                available = _present(model.computed, model.in_ram, cell=(t, i))
                model.problem.addConstraint(model.computed[t, k] <= pulp.lpSum(available))


def _add_residency(model: PublishedModel) -> None:
    """What is in a memory was there a stage ago, or came there during that stage."""
    for (t, i), resident in model.in_ram.items():
        came_from = _present(model.in_ram, model.computed, model.paged_in, cell=(t - 1, i))
        model.problem.addConstraint(resident <= pulp.lpSum(came_from))
    for (t, i), stored in model.in_flash.items():
        came_from = _present(model.in_flash, model.paged_out, cell=(t - 1, i))
        model.problem.addConstraint(stored <= pulp.lpSum(came_from))
    for cell, moved in model.paged_in.items():
        model.problem.addConstraint(moved <= model.in_flash[cell])
    for cell, moved in model.paged_out.items():
        model.problem.addConstraint(moved <= model.in_ram[cell])


def _add_memory(graph: PublishedGraph, model: PublishedModel, ram_bytes: int) -> None:
    """The recurrence of U within each stage; its upper bound is the RAM budget."""
    unit = math.gcd(*(node.bytes for node in graph.nodes)) or 1
    weights = [node.bytes // unit for node in graph.nodes]
    inputs: dict[int, list[int]] = {k: [] for k in range(len(weights))}
    for i, k in graph.edges:
        inputs[k].append(i)
    freed = _add_frees(graph, model)
    for t in range(len(weights)):
        resident = [(model.in_ram[t, i], weights[i]) for i in range(t)]
        before: list[tuple[pulp.LpVariable, int]] = resident
        for k in range(t + 1):
            used = model.problem.add_variable(f"U_{t}_{k}", 0, ram_bytes // unit)
            grown = [(model.computed[t, k], weights[k])] if (t, k) in model.computed else []
            model.problem.addConstraint(pulp.LpAffineExpression([*before, *grown]) == used)
            gone = [(freed[t, (i, k)], -weights[i]) for i in inputs[k] if (t, (i, k)) in freed]
            before = [(used, 1), *gone]


def _add_frees(graph: PublishedGraph, model: PublishedModel) -> dict[FreeCell, pulp.LpVariable]:
    """freed[t, (i, k)] is 1 exactly when nothing speaks against freeing i after computing k.

    Against it speak (the paper's hazards): k is not computed, i is resident in the next stage, a
    later node of this stage reads i.
    """
    readers: dict[int, list[int]] = {i: [] for i in range(len(graph.nodes))}
    for i, k in graph.edges:
        readers[i].append(k)
    freed: dict[FreeCell, pulp.LpVariable] = {}
    for t in range(len(graph.nodes)):
        for i, k in graph.edges:
            if (t, k) not in model.computed:
                continue
            free = model.problem.add_variable(f"Free_{t}_{i}_{k}", cat=pulp.LpBinary)
            later = [(t, j) for j in readers[i] if j > k and (t, j) in model.computed]
            stays = _present(model.in_ram, cell=(t + 1, i))
            hazards = [model.computed[cell] for cell in later] + stays
            against = pulp.lpSum([1 - model.computed[t, k], *hazards])
            model.problem.addConstraint(1 - free <= against)
            model.problem.addConstraint((1 + len(hazards)) * (1 - free) >= against)
            freed[t, (i, k)] = free
    return freed


def _add_run_time(graph: PublishedGraph, model: PublishedModel, time_ratio: float) -> None:
    """Compute seconds against the budget, both as multiples of computing everything once."""
    total = graph.total_seconds
    if total == 0.0:
        return
    shares = [
        (variable, graph.nodes[i].seconds / total) for (_, i), variable in model.computed.items()
    ]
    model.problem.addConstraint(pulp.LpAffineExpression(shares) <= time_ratio)


def _present(*tables: Mapping[Cell, pulp.LpVariable], cell: Cell) -> list[pulp.LpVariable]:
    """The variables of those tables that have this cell; the others are 0 there."""
    return [table[cell] for table in tables if cell in table]
