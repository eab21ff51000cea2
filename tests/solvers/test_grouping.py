"""The grouping pass: a schedule of groups is one of ops, at the same cost and no more RAM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs
from poet_core.plan import Budget, Problem
from poet_core.simulate import simulate
from poet_solvers.decode import decode
from poet_solvers.evict import evict_schedule
from poet_solvers.grouping import Grouper, group_problem
from poet_solvers.poet_milp import judged_model
from poet_solvers.scale import EASY_DECISIONS, scale_problem, without_loose_limits
from poet_solvers.values import value_table
from tests.oracles.generate import Shape, random_costs, random_graph
from tests.solvers.milp_cases import objective_of, solve_here
from tests.solvers.mlp_step import mlp_adam_step

PLENTY = 2**40


def random_problem(rng: Random, most_ops: int) -> Problem:
    graph = random_graph(rng, Shape(most_ops=most_ops, random_op=0.1))
    budget = Budget(ram_bytes=PLENTY, reserved_bytes=3, alignment_bytes=rng.choice((1, 4)))
    return Problem(graph=graph, costs=random_costs(rng, graph, idle=False), budget=budget)


def allowed_groups(rng: Random, problem: Problem) -> list[list[int]]:
    count = rng.randint(1, len(problem.graph.ops))
    return Grouper(problem).choose(count, PLENTY)


def flat_costs(problem: Problem) -> Costs:
    """One joule an op and 5 a transfer, so that both kinds of second use occur."""
    ops, storages = len(problem.graph.ops), len(problem.graph.storages)
    zeros, fives = (0.0,) * storages, (5.0,) * storages
    return Costs(
        op_seconds=(1.0,) * ops, op_joules=(1.0,) * ops, page_in_seconds=zeros,
        page_in_joules=fives, page_out_seconds=zeros, page_out_joules=fives,
    )  # fmt: skip


def test_groups_are_document_order_cut_into_runs() -> None:
    for seed in range(200):
        rng = Random(seed)
        problem = random_problem(rng, 12)
        groups = allowed_groups(rng, problem)
        assert [op for group in groups for op in group] == list(range(len(problem.graph.ops)))


def test_an_expanded_schedule_is_accepted_at_the_grouped_cost_and_peak(tmp_path: Path) -> None:
    merged = extra_runs = 0
    for seed in range(250):
        rng = Random(seed)
        problem = random_problem(rng, 9)
        problem = replace(problem, costs=flat_costs(problem))
        grouped = group_problem(problem, allowed_groups(rng, problem))
        floor = ram_floor(grouped.problem.graph, problem.budget).floor_bytes
        budget = replace(problem.budget, ram_bytes=floor + rng.randint(0, 4))
        tight = replace(grouped.problem, budget=budget)
        model = judged_model(tight)
        answer = solve_here(model, tmp_path)
        assert answer is not None, seed  # paging is allowed and the grouped floor is met
        schedule = decode(model, answer)
        grouped_figures = simulate(tight.graph, tight.costs, budget, schedule)
        figures = simulate(problem.graph, problem.costs, budget, grouped.expand(schedule))
        assert figures.energy_joules == pytest.approx(objective_of(model, answer), rel=1e-9)
        assert figures.peak_bytes <= grouped_figures.peak_bytes, seed
        assert figures.transfer_count == grouped_figures.transfer_count
        merged += len(grouped.groups) < len(problem.graph.ops)
        extra_runs += figures.compute_runs > len(problem.graph.ops)
    assert merged > 150
    assert extra_runs > 5


def test_a_groups_need_is_its_exact_inner_peak() -> None:
    """At the grouped floor the expanded schedule uses every byte of it."""
    exact = 0
    for seed in range(200):
        rng = Random(seed)
        problem = random_problem(rng, 10)
        grouped = group_problem(problem, allowed_groups(rng, problem))
        floor = ram_floor(grouped.problem.graph, problem.budget)
        budget = replace(problem.budget, ram_bytes=floor.floor_bytes)
        tight = replace(grouped.problem, budget=budget)
        schedule = evict_schedule(tight, value_table(tight.graph, budget))
        assert schedule is not None
        figures = simulate(problem.graph, problem.costs, budget, grouped.expand(schedule))
        exact += figures.peak_bytes == floor.floor_bytes
    assert exact > 190


def test_two_random_ops_are_never_in_one_group() -> None:
    problem = random_problem(Random(1), 3)
    graph = replace(problem.graph, ops=tuple(replace(op, random=True) for op in problem.graph.ops))
    groups = Grouper(replace(problem, graph=graph)).choose(1, PLENTY)
    assert groups == [[op.id] for op in graph.ops]


def test_inner_storages_vanish_and_others_stay() -> None:
    graph = mlp_adam_step((8, 8, 4), batch=2)
    problem = Problem(
        graph=graph, costs=random_costs(Random(0), graph), budget=Budget(ram_bytes=PLENTY)
    )
    first, last = graph.ops[0].id, graph.ops[-1].id
    grouped = group_problem(problem, [list(range(first, last + 1))]).problem.graph
    visible = {s.name for s in grouped.storages if s.size_bytes}
    expected = {s.name for s in graph.storages if graph.begins_resident(s.id) or s.result}
    assert visible == expected
    assert grouped.ops[0].workspace_bytes > 0


@pytest.mark.parametrize("percent", [60, 50, 42])
def test_the_demo_is_grouped_to_an_easy_size_within_the_budget(percent: int) -> None:
    graph = mlp_adam_step()
    costs = random_costs(Random(0), graph)
    keep_bytes = judge_keep_everything(graph, costs).peak_bytes
    budget = Budget(ram_bytes=keep_bytes * percent // 100)
    problem = Problem(graph=graph, costs=costs, budget=budget)
    scale = scale_problem(problem)
    assert scale.grouped is not None
    assert scale.decisions <= EASY_DECISIONS
    assert ram_floor(scale.problem.graph, problem.budget).floor_bytes <= problem.budget.ram_bytes


def test_limits_that_nothing_can_reach_are_dropped_and_others_kept() -> None:
    problem = random_problem(Random(3), 6)
    total = sum(v.flash_bytes for v in value_table(problem.graph, problem.budget).values)
    loose = replace(problem.budget, flash_bytes=total, flash_write_bytes=total)
    tight = replace(problem.budget, flash_bytes=0, flash_write_bytes=0)
    dropped = without_loose_limits(replace(problem, budget=loose)).budget
    assert (dropped.flash_bytes, dropped.flash_write_bytes) == (None, None)
    kept = without_loose_limits(replace(problem, budget=tight)).budget
    assert (kept.flash_bytes, kept.flash_write_bytes) == (0, 0)


def test_fewer_groups_go_on_from_more() -> None:
    """Merging on from an earlier answer gives what merging from single ops gives."""
    for seed in range(40):
        problem = random_problem(Random(seed), 20)
        grouper = Grouper(problem)
        for count in (12, 6, 9, 3, 1):
            assert grouper.choose(count, PLENTY) == Grouper(problem).choose(count, PLENTY)
