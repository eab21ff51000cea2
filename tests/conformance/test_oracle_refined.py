"""Refined relaxations against the exact oracle: never above it, decoded, and mostly equal to it."""

from collections import Counter
from collections.abc import Callable
from math import fsum
from random import Random
from typing import Any

import highspy

from poet_core.errors import PlanError
from poet_core.plan import Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_solvers.bounds.orders import in_order
from poet_solvers.bounds.read_point import schedule_of
from poet_solvers.bounds.refine import broken_moments
from poet_solvers.bounds.relaxation import Grid, Relaxation, relax_on, worst_positions
from poet_solvers.desk import first_runs
from tests.oracles.generate import Shape, random_problem
from tests.oracles.planner_checks import ABSOLUTE, MODES
from tests.oracles.shortest_path import Best, TooLarge, least_energy

_ROUNDS = 12


def oracle_of(problem: Problem, *, given_order: bool) -> Best | None:
    return least_energy(
        problem.graph, problem.costs, problem.budget, given_order=given_order,
        page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
        most_states=1_500,
    )  # fmt: skip


def judged(problem: Problem, schedule: Schedule) -> Judgement | None:
    try:
        return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    except PlanError:
        return None


def best_point(relaxation: Relaxation) -> tuple[float, list[float]]:
    """The optimum and a point that reaches it, by HiGHS in this process."""
    rows = relaxation.rows
    new_solver: Callable[[], Any] = highspy.Highs  # untyped where the rest of highspy is typed
    solver = new_solver()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 0.0)
    for column, price in enumerate(rows.costs):
        solver.addVar(0, 1)
        solver.changeColCost(column, float(price))
        if rows.whole[column]:
            solver.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for row in rows.rows:
        columns = [column for column, _ in row.terms]
        unit = float(max(abs(weight) for _, weight in row.terms))
        weights = [weight / unit for _, weight in row.terms]
        solver.addRow(
            -highspy.kHighsInf, row.right_hand_side / unit, len(columns), columns, weights
        )
    solver.run()
    if rows.rows:
        assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    point = list(solver.getSolution().col_value)
    cost = fsum(float(c) * x for c, x in zip(rows.costs, point, strict=True))
    return float(relaxation.prices.base) + cost, point


def refine_to_the_end(problem: Problem, exact_joules: float) -> Counter[str]:
    """The loop of the ladder, every relaxation of it held against the oracle."""
    grid, counts, value = worst_positions(problem, 1), Counter[str](), 0.0
    for _ in range(_ROUNDS):
        relaxation = relax_on(problem, grid)
        value, point = best_point(relaxation)
        assert value <= exact_joules + ABSOLUTE
        schedule = schedule_of(relaxation, point)
        judgement = judged(problem, schedule)
        if judgement is not None and judgement.energy_joules <= value + ABSOLUTE:
            assert abs(judgement.energy_joules - exact_joules) <= ABSOLUTE
            counts["proven"] += 1
            return counts
        finer = grid.union(broken_moments(problem, schedule, 8))
        if finer == grid:
            break
        counts["with second runs counted"] += len(finer.inside) > len(grid.inside)
        grid = finer
    counts["met by its bound" if value > exact_joules - ABSOLUTE else "open"] += 1
    return counts


def test_refinement_ends_with_a_proven_plan_nearly_always() -> None:
    rng, modes = Random(31), list(MODES)
    counts = Counter[str]()
    for number in range(500):
        problem = random_problem(rng, Shape(most_ops=7), MODES[modes[number % len(modes)]])
        try:
            oracle = oracle_of(problem, given_order=True)
        except TooLarge:
            continue
        if oracle is None or oracle.energy_joules <= problem.costs.base_joules + ABSOLUTE:
            continue
        counts += refine_to_the_end(problem, oracle.energy_joules)
    assert counts["proven"] > 60
    assert counts["proven"] > 8 * (counts["open"] + counts["met by its bound"]), counts


def test_counting_second_runs_anywhere_is_never_above_the_oracle() -> None:
    rng = Random(32)
    counts = Counter[str]()
    shape = Shape(most_ops=7, most_persistent=1, mutate=0.05, run_once=0.02, overwrite=0.05)
    for _ in range(1500):
        problem = random_problem(rng, shape, MODES["rematerialize only"])
        try:
            oracle = oracle_of(problem, given_order=True)
        except TooLarge:
            continue
        if oracle is None or oracle.energy_joules <= problem.costs.base_joules + ABSOLUTE:
            continue
        ops = range(len(problem.graph.ops))
        checkpoints = tuple(op for op in ops if rng.random() < 0.6)
        every = frozenset((first, op) for first in ops for op in ops if op < first)
        without, _ = best_point(relax_on(problem, Grid(checkpoints=checkpoints)))
        value, _ = best_point(relax_on(problem, Grid(checkpoints=checkpoints, inside=every)))
        assert without - ABSOLUTE <= value <= oracle.energy_joules + ABSOLUTE
        counts["problems"] += 1
        counts["lifted"] += value > without + ABSOLUTE
    assert counts["problems"] > 60
    assert counts["lifted"] > 2, counts


def test_a_step_listed_in_a_plans_order_is_the_same_step() -> None:
    rng = Random(33)
    counts = Counter[str]()
    for _ in range(500):
        problem = random_problem(rng, Shape(most_ops=5))
        try:
            best = oracle_of(problem, given_order=False)
        except TooLarge:
            continue
        if best is None:
            continue
        order = first_runs(best.schedule)
        listed = in_order(problem, order)
        if order == tuple(range(len(order))) or listed is None:
            counts["another step"] += listed is None
            continue
        here = listed.schedule_here(best.schedule)
        assert listed.schedule_back(here) == best.schedule
        judgement = judged(problem, best.schedule)
        assert judgement is not None
        assert judged(listed.problem, here) == judgement
        value, point = best_point(relax_on(listed.problem, worst_positions(listed.problem, 256)))
        assert value <= best.energy_joules + ABSOLUTE
        counts["reordered"] += 1
        counts["tight"] += value > best.energy_joules - ABSOLUTE
        back = judged(problem, listed.schedule_back(schedule_of(_again(listed.problem), point)))
        assert back is None or back.energy_joules >= best.energy_joules - ABSOLUTE
    assert counts["reordered"] > 15, counts
    assert counts["tight"] > 0.8 * counts["reordered"]


def _again(problem: Problem) -> Relaxation:
    return relax_on(problem, worst_positions(problem, 256))
