"""`least_ram`: never more than it says, never less than brute force over all budgets allows."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from random import Random

import pytest

from poet_core.bounds import ram_floor
from poet_core.errors import BudgetError, UsageError
from poet_core.plan import Allowed, HoldsFor, Objective, Problem
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.frontier_points import everything_kept, with_ram
from poet_solvers.least_ram import LeastRam, LeastRamEnding, least_ram
from tests.oracles.generate import Shape, random_problem
from tests.oracles.shortest_path import TooLarge, least_energy
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

QUICK = SolveLimits(wall_seconds=4, threads=1)
SMALL = Shape(most_ops=5, most_persistent=2, most_bytes=4)


def checked(problem: Problem, found: LeastRam) -> LeastRam:
    """Judged again; the figures agree with each other."""
    judgement = verify(problem.graph, found.plan)
    assert judgement.peak_bytes == found.ram_bytes == found.plan.budget.ram_bytes
    assert found.plan.budget == with_ram(problem, found.ram_bytes).budget
    assert found.plan.objective_value <= found.allowed_cost
    assert found.floor.floor_bytes <= found.ram_bytes <= found.keep.peak_bytes
    assert found.proven_above_bytes < found.ram_bytes
    assert all(
        one.least_cost is None or one.least_cost > found.allowed_cost for one in found.too_small
    )
    return found


def exact_least_ram(problem: Problem, allowed_joules: float, *, given_order: bool) -> int:
    """By brute force: the first budget from the floor up at which the oracle is cheap enough."""
    floor = ram_floor(problem.graph, problem.budget, paging=problem.allowed.page).floor_bytes
    for ram_bytes in range(floor, everything_kept(problem).peak_bytes):
        best = least_energy(
            problem.graph, problem.costs, with_ram(problem, ram_bytes).budget,
            given_order=given_order, page=problem.allowed.page,
            rematerialize=problem.allowed.rematerialize, most_states=3_000,
        )  # fmt: skip
        if best is not None and best.energy_joules <= allowed_joules:
            return ram_bytes
    return everything_kept(problem).peak_bytes


def test_brute_force_over_all_budgets_finds_nothing_below() -> None:
    compare_with_brute_force(seed=5, problems=6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_brute_force_over_all_budgets_finds_nothing_below_200_problems() -> None:
    compare_with_brute_force(seed=6, problems=200)


def compare_with_brute_force(seed: int, problems: int) -> None:
    rng, equal, compared, proven = Random(seed), 0, 0, 0
    while compared < problems:
        allowed = Allowed(reorder=compared % 2 == 0)
        problem = random_problem(rng, SMALL, allowed=allowed)
        overhead = rng.choice((0.0, 0.1, 0.5))
        base = problem.costs.base_joules
        cheap_enough = base * (1 + overhead) * (1 + 1e-9)
        try:
            least = exact_least_ram(problem, cheap_enough, given_order=not allowed.reorder)
            in_order = exact_least_ram(problem, cheap_enough, given_order=True)
        except TooLarge:
            continue
        if (
            ram_floor(problem.graph, problem.budget).floor_bytes
            >= everything_kept(problem).peak_bytes
        ):
            continue
        found = checked(problem, least_ram(problem, overhead=overhead, limits=QUICK))
        compared += 1
        assert found.ram_bytes >= least
        assert found.proven_above_bytes < least
        for one in found.too_small:
            assert one.ram_bytes < (in_order if one.holds_for is HoldsFor.GIVEN_ORDER else least)
        equal += found.ram_bytes == least
        if found.ending is LeastRamEnding.PROVEN:
            assert found.ram_bytes == least
            proven += 1
    assert equal >= 0.9 * compared
    assert proven >= 0.5 * compared


def test_no_overhead_at_all() -> None:
    """The unit chain needs its 4 bytes where nothing may cost anything; 3 with a page_out and in."""
    problem = unit_chain(2, 10, 0.4, Allowed(reorder=False))
    free = checked(problem, least_ram(problem, overhead=0.0, limits=QUICK))
    assert (free.ram_bytes, free.ending) == (4, LeastRamEnding.PROVEN)
    assert free.plan.objective_value == free.base_cost == 5
    assert free.proven_above_bytes == 3
    dearer = checked(problem, least_ram(problem, overhead=0.8 / 5, limits=QUICK))
    assert (dearer.ram_bytes, dearer.ending) == (3, LeastRamEnding.PROVEN)
    assert "RAM floor" in dearer.too_small[0].by


@pytest.mark.parametrize("objective", Objective)
def test_a_whole_step_for_energy_and_for_time(objective: Objective) -> None:
    step = mlp_problem(mlp_adam_step((64, 80, 10), batch=20), 1.0)
    problem, said = replace(step, objective=objective), []
    limits = SolveLimits(wall_seconds=2.5, threads=1)
    found = checked(
        problem, least_ram(problem, overhead=0.5, limits=limits, on_progress=said.append)
    )
    tight = checked(problem, least_ram(problem, overhead=0.0, limits=limits))
    assert found.ram_bytes <= tight.ram_bytes
    assert found.tries
    assert any("certainly too little" in now.message for now in said)


def test_moves_make_it_the_same_every_time() -> None:
    problem = unit_chain(5, 10, 0.4, Allowed())
    limits = SolveLimits(wall_seconds=60, moves=5_000, threads=1)
    one, other = (least_ram(problem, overhead=0.2, limits=limits) for _ in range(2))
    assert one.tries
    assert one.plan.schedule == other.plan.schedule
    assert [(item.ram_bytes, item.cost) for item in one.tries] == [
        (item.ram_bytes, item.cost) for item in other.tries
    ]


def test_cancelling_keeps_the_best_so_far() -> None:
    problem, cancel = mlp_problem(mlp_adam_step(), 1.0), threading.Event()
    threading.Timer(1.0, cancel.set).start()
    began = time.monotonic()
    found = checked(
        problem,
        least_ram(problem, overhead=0.2, limits=SolveLimits(wall_seconds=100), cancel=cancel),
    )
    assert time.monotonic() - began < 4
    assert found.ending in (LeastRamEnding.CANCELLED, LeastRamEnding.PROVEN)


@pytest.mark.parametrize("overhead", [-0.1, float("nan"), float("inf")])
def test_an_overhead_that_is_none_is_refused(overhead: float) -> None:
    with pytest.raises(UsageError) as refused:
        least_ram(unit_chain(2, 4, 0.4, Allowed()), overhead=overhead)
    assert refused.value.code == "overhead_invalid"


def test_a_limit_that_no_ram_can_meet_is_refused_with_its_proof() -> None:
    problem = unit_chain(2, 4, 0.4, Allowed())
    problem = replace(problem, budget=replace(problem.budget, energy_joules=4.0))
    with pytest.raises(BudgetError) as refused:
        least_ram(problem, overhead=0.1)
    assert refused.value.code == "energy_below_base"
