"""The evict schedule always exists, and polishing and warm starts never lose what it reached."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from poet_core.bounds import ram_floor
from poet_core.plan import Allowed, Do, Instruction, Problem
from poet_core.simulate import INSTRUCTIONS_PER_OP, simulate
from poet_solvers.evict import best_evict_schedule, evict_schedule
from poet_solvers.poet_milp import judged_model
from poet_solvers.polish import polish
from poet_solvers.values import value_table
from poet_solvers.warm_start import warm_start
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph
from tests.solvers.milp_cases import objective_of, solve_here


def problems_at_the_floor(count: int, most_ops: int, slack: int = 0) -> list[Problem]:
    found = []
    for seed in range(count):
        rng = Random(seed)
        graph = random_graph(rng, Shape(most_ops=most_ops))
        budget = random_budget(rng, 0)
        floor = ram_floor(graph, budget).floor_bytes
        budget = replace(budget, ram_bytes=floor + rng.randint(0, slack), overlap=False)
        found.append(
            Problem(graph=graph, costs=random_costs(rng, graph, idle=False), budget=budget)
        )
    return found


def test_it_meets_every_budget_from_the_floor_up() -> None:
    tight = 0
    for number, problem in enumerate(problems_at_the_floor(2000, most_ops=20)):
        schedule = evict_schedule(problem, value_table(problem.graph, problem.budget))
        assert schedule is not None, number
        if len(schedule.instructions) > INSTRUCTIONS_PER_OP * len(problem.graph.ops):
            continue
        figures = simulate(problem.graph, problem.costs, problem.budget, schedule)
        tight += figures.peak_bytes == problem.budget.ram_bytes
    assert tight > 1900


def test_polishing_is_never_worse_and_often_better() -> None:
    better = 0
    for problem in problems_at_the_floor(300, most_ops=15, slack=6):
        schedule = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
        assert schedule is not None
        before = simulate(problem.graph, problem.costs, problem.budget, schedule)
        after = simulate(problem.graph, problem.costs, problem.budget, polish(problem, schedule))
        assert after.energy_joules <= before.energy_joules
        better += after.energy_joules < before.energy_joules
    assert better > 10


def test_polishing_takes_out_a_run_that_nobody_needs() -> None:
    problem = problems_at_the_floor(1, most_ops=6)[0]
    problem = replace(
        problem, budget=replace(problem.budget, ram_bytes=problem.budget.ram_bytes + 100)
    )
    table = value_table(problem.graph, problem.budget)
    schedule = best_evict_schedule(problem, table)
    assert schedule is not None
    op = next(
        op for op in problem.graph.ops
        if op.recomputable and not op.mutates and not op.random and op.writes
    )  # fmt: skip
    # run it twice in a row; the second run overwrites what is there with the same versions
    place = schedule.instructions.index(Instruction(Do.COMPUTE, op.id))
    twice = replace(
        schedule,
        instructions=(*schedule.instructions[:place], Instruction(Do.COMPUTE, op.id),
                      *schedule.instructions[place:]),
    )  # fmt: skip
    assert polish(problem, twice).instructions.count(Instruction(Do.COMPUTE, op.id)) == 1


def test_without_paging_there_is_none() -> None:
    problem = problems_at_the_floor(1, most_ops=6)[0]
    refused = replace(problem, allowed=Allowed(page=False))
    assert best_evict_schedule(refused, value_table(problem.graph, problem.budget)) is None


def test_as_a_warm_start_it_is_a_point_of_the_model_at_its_own_cost(tmp_path: Path) -> None:
    """Fixing all binaries to the start leaves a model that is feasible at the judge's cost."""
    usable = 0
    problems = problems_at_the_floor(150, most_ops=7, slack=5)
    for number, problem in enumerate(problems):
        table = value_table(problem.graph, problem.budget)
        schedule = best_evict_schedule(problem, table)
        assert schedule is not None
        model = judged_model(problem, table=table)
        for name, value in warm_start(model, schedule).items():
            variable = model.pulp_model.variablesDict()[name]
            variable.lowBound = variable.upBound = value
        answer = solve_here(model, tmp_path)
        if answer is None:  # against a twin row, or it keeps what nobody uses
            continue
        usable += 1
        figures = simulate(problem.graph, problem.costs, problem.budget, schedule)
        assert objective_of(model, answer) == pytest.approx(figures.energy_joules), number
    assert usable > 0.8 * len(problems)
