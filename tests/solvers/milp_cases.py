"""Problems for the judged MILP's tests, and HiGHS in this process for the many tiny models.

The adapters start a process a solve, which is right for a service and too slow for a thousand
random graphs; the adapters have tests of their own, and some here solve through them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import highspy

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Objective, Problem
from poet_solvers.backends.model_file import read_model, write_mps
from poet_solvers.milp_model import JudgedModel
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph


def unit_chain(depth: int, ram_bytes: int, page_cost: float, allowed: Allowed) -> Problem:
    """POET's unit chain: nodes 0..2 depth, edges (i, i+1) and (i, 2 depth - i), every node costs 1
    and weighs 1; the last node is the result, transfers take no time."""
    count = 2 * depth + 1
    reads: list[set[int]] = [set() for _ in range(count)]
    for node in range(count - 1):
        reads[node + 1].add(node)
    for node in range(depth):
        reads[2 * depth - node].add(node)
    storages = tuple(
        Storage(id=i, name=f"n{i}", size_bytes=1, role=Role.ACTIVATION, result=i == count - 1)
        for i in range(count)
    )
    ops = tuple(
        Op(id=i, name=f"n{i}", kind="unit", phase=Phase.FORWARD, reads=tuple(sorted(reads[i])),
           writes=(i,))
        for i in range(count)
    )  # fmt: skip
    ones, nothing, page = (1.0,) * count, (0.0,) * count, (page_cost,) * count
    return Problem(
        graph=TrainingGraph(storages=storages, ops=ops),
        costs=Costs(
            op_seconds=ones, op_joules=ones, page_in_seconds=nothing, page_in_joules=page,
            page_out_seconds=nothing, page_out_joules=page,
        ),
        budget=Budget(ram_bytes=ram_bytes),
        allowed=allowed,
    )  # fmt: skip


def random_problems(
    seeds: range, *, most_ops: int = 6, limits: bool = False, overlap: bool | None = None
) -> Iterator[tuple[int, Problem]]:
    """Random problems between the floor and keep-everything; with `limits`, some also bound flash,
    flash writes or time."""
    for seed in seeds:
        rng = Random(seed)
        graph = random_graph(rng, Shape(most_ops=most_ops))
        costs = random_costs(rng, graph, idle=limits)
        budget = random_budget(rng, 0)
        if overlap is not None:
            budget = replace(budget, overlap=overlap)
        page, rematerialize = rng.choice(((True, True), (True, True), (True, False), (False, True)))
        floor = ram_floor(graph, budget, paging=page).floor_bytes
        peak = judge_keep_everything(
            graph, costs, reserved_bytes=budget.reserved_bytes,
            alignment_bytes=budget.alignment_bytes,
        ).peak_bytes  # fmt: skip
        budget = replace(budget, ram_bytes=rng.randint(floor, max(floor, peak)))
        if limits:
            budget = replace(
                budget,
                flash_bytes=rng.choice((None, None, rng.randint(0, 12))),
                flash_write_bytes=rng.choice((None, None, None, rng.randint(0, 12))),
                step_seconds=rng.choice((None, None, None, costs.base_seconds * 1.5)),
            )
        yield (
            seed,
            Problem(
                graph=graph,
                costs=costs,
                budget=budget,
                allowed=Allowed(page=page, rematerialize=rematerialize),
                objective=rng.choice(tuple(Objective)) if limits else Objective.ENERGY,
            ),
        )


def solve_here(model: JudgedModel, folder: Path) -> Mapping[str, float] | None:
    """All variables of an optimum, or None where HiGHS proves that there is none."""
    if model.contradiction is not None:
        return None
    if not model.decisions:
        return {}
    linear = read_model(model.pulp_model)
    path = folder / "model.mps"
    path.write_text(write_mps(linear), encoding="ascii")
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("mip_rel_gap", 0.0),
        ("mip_abs_gap", 0.0),
        ("mip_feasibility_tolerance", 1e-9),
        ("primal_feasibility_tolerance", 1e-9),
    ):
        solver.setOptionValue(option, value)
    solver.readModel(str(path))
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kInfeasible:
        return None
    assert status == highspy.HighsModelStatus.kOptimal, status
    point = solver.getSolution().col_value
    return {
        column.name: float(round(value)) if column.integer else value
        for column, value in zip(linear.columns, point, strict=True)
    }


def objective_of(model: JudgedModel, answer: Mapping[str, float]) -> float:
    """The model's objective at an answer."""
    objective = model.pulp_model.objective
    terms = (weight * answer[variable.name] for variable, weight in objective.items())
    return float(sum(terms, start=objective.constant))
