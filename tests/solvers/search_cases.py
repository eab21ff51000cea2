"""Random problems with everything that the judge knows, and the native search with its own checks on."""

from __future__ import annotations

import importlib
from dataclasses import replace
from random import Random
from typing import Any

from poet_core.bounds import ram_floor
from poet_core.plan import Allowed, Budget, Objective, Problem
from poet_solvers.native_problem import native_problem, native_start, sequence_of
from poet_solvers.occurrences import Sequence, hold_everything, step_model
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph

MODES = tuple(
    Allowed(page=page, rematerialize=rematerialize, reorder=reorder)
    for page, rematerialize in ((True, True), (True, False), (False, True))
    for reorder in (False, True)
)


def checked_search(problem: Problem, *, moves: int, seed: int) -> tuple[float, Sequence | None]:
    """What the native search says its answer costs, and the answer. After each change that it
    accepts it compares its books with what the events say, and fails where they differ."""
    native: Any = importlib.import_module("poet_solvers._search")
    model = step_model(problem)
    answer, _moves = native.search(
        problem=native_problem(native, model),
        **native_start(model, hold_everything(model)),
        seed=seed,
        moves=moves,
        seconds=0.0,
        price=max(sum(model.op_cost), 1.0) * 1e-3,
        check=True,
        poll=lambda _answer, _moves: True,
    )
    return answer[0], sequence_of(model, answer)


def anything(seed: int, most_ops: int) -> Problem:
    """A problem with overlap, idle power, limits, random ops and either objective, by chance."""
    rng = Random(seed)
    graph = random_graph(rng, Shape(most_ops=most_ops, random_op=0.3))
    costs = random_costs(rng, graph)
    allowed = MODES[seed % len(MODES)]
    budget = random_budget(rng, 0)
    floor = ram_floor(graph, budget, paging=allowed.page).floor_bytes

    def limit(chance: float, amount: float) -> float | None:
        return amount if rng.random() < chance else None

    def flash(chance: float) -> int | None:
        return rng.randint(0, 12) if rng.random() < chance else None

    budget = Budget(
        ram_bytes=floor + rng.randint(0, 8),
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
        overlap=budget.overlap,
        step_seconds=limit(0.25, costs.base_seconds * rng.choice((1.02, 1.1, 1.3))),
        energy_joules=limit(0.25, costs.base_joules * rng.choice((1.02, 1.1, 1.3))),
        flash_bytes=flash(0.3),
        flash_write_bytes=flash(0.3),
    )
    objective = rng.choice((Objective.ENERGY, Objective.TIME))
    return Problem(graph=graph, costs=costs, budget=budget, objective=objective, allowed=allowed)


def without_limits(problem: Problem) -> Problem:
    """The same problem with RAM as its only limit."""
    budget = replace(
        problem.budget, step_seconds=None, energy_joules=None, flash_bytes=None,
        flash_write_bytes=None,
    )  # fmt: skip
    return replace(problem, budget=budget)
