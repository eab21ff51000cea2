"""Relaxations under limits: any schedule, within limits that are its own figures, is above them."""

from collections import Counter
from dataclasses import replace
from random import Random

from poet_core.baseline import judge_keep_everything
from poet_core.plan import Allowed, Budget, Objective, Problem
from poet_core.simulate import Judgement
from poet_solvers.bounds.orders import in_order
from poet_solvers.bounds.relaxation import Grid, relax_on
from poet_solvers.desk import cost_of, first_runs
from poet_solvers.evict import best_evict_schedule
from poet_solvers.greedy import greedy_schedule
from poet_solvers.values import value_table
from tests.conformance.test_oracle_refined import best_point, judged
from tests.oracles.generate import Shape, random_costs, random_graph, random_problem, random_walk
from tests.oracles.planner_checks import ABSOLUTE
from tests.solvers.test_bounds import updated_weight

_ENDLESS = 1 << 40


def own_figures(rng: Random, budget: Budget, figures: Judgement) -> Budget:
    """The budget with some of the schedule's own figures as limits, RAM always."""

    def asked() -> bool:
        return rng.random() < 0.5

    return replace(
        budget,
        ram_bytes=figures.peak_bytes,
        flash_bytes=figures.flash_peak_bytes if asked() else None,
        flash_write_bytes=figures.flash_bytes_written if asked() else None,
        step_seconds=figures.step_seconds if asked() else None,
        energy_joules=figures.energy_joules if asked() else None,
    )


def random_grid(rng: Random, ops: int) -> Grid:
    """Some checkpoints, and second runs counted wherever there may be one."""
    share = rng.choice((0.3, 1.0))
    every = frozenset((first, op) for first in range(ops) for op in range(first))
    return Grid(
        checkpoints=tuple(op for op in range(ops) if rng.random() < share),
        inside=rng.choice((frozenset(), every)),
    )


def walked_problem(rng: Random) -> tuple[Problem, float] | None:
    """A random walk's own problem, its ops listed in the walk's order, and what the walk costs."""
    graph = random_graph(rng, Shape(most_ops=7))
    walk = random_walk(rng, graph)
    if walk is None:
        return None
    problem = Problem(
        graph=graph,
        costs=random_costs(rng, graph),
        budget=Budget(ram_bytes=_ENDLESS, overlap=rng.random() < 0.6, alignment_bytes=2),
        objective=rng.choice(tuple(Objective)),
    )
    figures = judged(problem, walk)
    listed = in_order(problem, first_runs(walk)) if figures is not None else None
    if figures is None or listed is None:
        return None
    budget = own_figures(rng, problem.budget, figures)
    within = replace(listed.problem, budget=budget)
    again = judged(within, listed.schedule_here(walk))
    assert again is not None
    return within, cost_of(within, again)


def test_no_random_walk_is_below_a_relaxation_with_its_own_figures_as_limits() -> None:
    rng = Random(51)
    counts = Counter[str]()
    while counts["walks"] < 500:
        found = walked_problem(rng)
        if found is None:
            continue
        problem, cost = found
        counts["walks"] += 1
        relaxation = relax_on(problem, random_grid(rng, len(problem.graph.ops)))
        assert not relaxation.rows.contradiction
        value, _ = best_point(relaxation)
        assert value <= cost + ABSOLUTE


def test_planners_plans_under_their_own_figures_are_often_met() -> None:
    rng = Random(52)
    counts = Counter[str]()
    while counts["plans"] < 500:
        problem = random_problem(rng, Shape(most_ops=9), Allowed(reorder=False))
        budget = replace(problem.budget, overlap=rng.random() < 0.6)
        problem = replace(problem, budget=budget, objective=rng.choice(tuple(Objective)))
        table = value_table(problem.graph, problem.budget)
        for plan in (best_evict_schedule(problem, table), greedy_schedule(problem)):
            figures = None if plan is None else judged(problem, plan)
            if figures is None or plan is None:
                continue
            within = replace(problem, budget=own_figures(rng, problem.budget, figures))
            assert judged(within, plan) is not None
            cost = cost_of(problem, figures)
            grid = random_grid(rng, len(problem.graph.ops))
            value, _ = best_point(relax_on(within, grid))
            assert value <= cost + ABSOLUTE
            counts["plans"] += 1
            ram = replace(problem.budget, ram_bytes=within.budget.ram_bytes)
            free, _ = best_point(relax_on(replace(problem, budget=ram), grid))
            counts["lifted by limits"] += value > free + ABSOLUTE
            counts["met"] += value > cost - ABSOLUTE
    assert counts["met"] > 120, counts
    assert counts["lifted by limits"] > 5, counts


def test_hidden_transfers_bound_the_step_once_they_outlast_the_runs() -> None:
    # One weight goes out and comes back: 2 + 2 seconds of transfers beside 3 seconds of runs.
    problem = updated_weight(5)
    costs = replace(
        problem.costs,
        op_seconds=(1.0,) * 3,
        page_in_seconds=(2.0,) * 3,
        page_out_seconds=(2.0,) * 3,
    )
    budget = replace(problem.budget, overlap=True)
    timed = replace(problem, costs=costs, budget=budget, objective=Objective.TIME)
    everywhere = Grid(checkpoints=(0, 1, 2))
    value, _ = best_point(relax_on(timed, everywhere))
    assert abs(value - 4) < ABSOLUTE
    assert judge_keep_everything(timed.graph, costs).step_seconds == 3
    with_room = replace(timed, budget=replace(budget, ram_bytes=6))
    assert best_point(relax_on(with_room, everywhere))[0] == 3
