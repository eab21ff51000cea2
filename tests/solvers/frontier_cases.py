"""Problems for the tests of frontiers, and a frontier judged again."""

from __future__ import annotations

from itertools import pairwise

from poet_core.plan import Allowed, Problem
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.frontier import Frontier
from poet_solvers.frontier_points import PointEnding, with_ram
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

MOVES = SolveLimits(wall_seconds=30, moves=5_000, threads=1)
QUICK = SolveLimits(wall_seconds=0.4, threads=1)


def step() -> Problem:
    """One Adam step of a small MLP, whole."""
    return mlp_problem(mlp_adam_step((64, 80, 10), batch=20), 1.0)


def chain(ram_bytes: int, *, page: bool = True, rematerialize: bool = True) -> Problem:
    """POET's unit chain of 5 nodes: everything kept takes 4 bytes, the floor is 3."""
    allowed = Allowed(page=page, rematerialize=rematerialize, reorder=False)
    return unit_chain(2, ram_bytes, 0.4, allowed)


def checked(found: Frontier) -> Frontier:
    """Judged again, monotone in cost and in bound, bounds below costs."""
    points = found.points
    assert [p.ram_bytes for p in points] == sorted({p.ram_bytes for p in points}, reverse=True)
    for point in points:
        assert (point.plan is not None) == (point.ending is PointEnding.PLANNED)
        if point.plan is not None:
            assert point.plan.budget == with_ram(found.problem, point.ram_bytes).budget
            verify(found.problem.graph, point.plan)
            assert point.plan.bound is not None
            assert point.plan.bound.value <= point.plan.objective_value
    costs = [point.plan.objective_value for point in points if point.plan is not None]
    assert all(tighter >= looser * (1 - 1e-9) for looser, tighter in pairwise(costs))
    return found


def figures(found: Frontier) -> list[tuple[int, str, object]]:
    return [
        (p.ram_bytes, p.ending.name, p.plan and (p.plan.schedule, p.plan.claims))
        for p in found.points
    ]
