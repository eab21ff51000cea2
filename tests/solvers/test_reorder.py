"""Orders of first runs with less RAM: legal by the judge, and leaner where there is room to be."""

from __future__ import annotations

from random import Random

import pytest

from poet_core.plan import Allowed, Budget, Problem
from poet_core.simulate import simulate
from poet_solvers.greedy import best_greedy_sequence, excess_to_save, greedy_sequence
from poet_solvers.greedy_timeline import Timeline
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.reorder import lean_orders, order_rules
from tests.oracles.generate import Shape, random_costs, random_graph
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem


def problem_of(seed: int, most_ops: int = 16) -> Problem:
    rng = Random(seed)
    graph = random_graph(rng, Shape(most_ops=most_ops))
    return Problem(graph=graph, costs=random_costs(rng, graph), budget=Budget(ram_bytes=10**9))


def test_the_judge_accepts_both_orders_of_every_graph() -> None:
    moved = [0, 0]
    for seed in range(1500):
        problem = problem_of(seed)
        model = step_model(problem)
        for which, order in enumerate(lean_orders(model)):
            assert sorted(order) == list(range(len(problem.graph.ops)))
            schedule = sequence_schedule(model, Timeline(model, order).sequence())
            simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
            moved[which] += order != sorted(order)
    assert min(moved) > 500


def test_the_rules_leave_every_order_that_keeps_them() -> None:
    """Random orders by the rules alone are accepted, and breaking one of them is not."""
    refused = 0
    for seed in range(400):
        problem = problem_of(seed, most_ops=8)
        model, rng = step_model(problem), Random(seed)
        before = order_rules(problem.graph)
        order: list[int] = []
        while len(order) < len(before):
            ready = [o for o in range(len(before)) if o not in order and before[o] <= set(order)]
            order.append(rng.choice(ready))
        schedule = sequence_schedule(model, Timeline(model, order).sequence())
        simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
        refused += sum(map(len, before))
    assert refused > 1000  # there were rules to keep


def test_greedy_begins_with_another_order_only_where_it_may() -> None:
    for seed in range(200):
        problem = problem_of(seed)
        peak = int(Timeline(step_model(problem)).memory.max())
        for reorder in (False, True):
            tight = Problem(
                graph=problem.graph,
                costs=problem.costs,
                budget=Budget(ram_bytes=max(1, 3 * peak // 4)),
                allowed=Allowed(reorder=reorder),
            )
            found = best_greedy_sequence(tight)
            if found is not None and not reorder:
                firsts = [op for number, op in found.runs if number == op]
                assert firsts == sorted(firsts), seed


def test_where_updates_wait_for_the_end_of_the_step_reordering_saves_their_gradients() -> None:
    """Updates put last, as some optimizers do: a legal order, and one that holds every gradient."""
    graph = mlp_adam_step((64, 96, 96, 10), batch=4)
    problem = mlp_problem(graph, 0.9)
    model = step_model(problem)
    late = sorted(range(len(graph.ops)), key=lambda op: (graph.ops[op].phase == "update", op))
    worst = Timeline(model, late).memory.max()
    assert all(Timeline(model, order).memory.max() < worst for order in lean_orders(model))


@pytest.mark.parametrize("share", [0.5, 0.7])
def test_greedy_is_no_dearer_for_trying_another_order(share: float) -> None:
    problem = mlp_problem(mlp_adam_step((64, 96, 96, 10)), share)
    model = step_model(problem)
    plain = greedy_sequence(model)
    best = best_greedy_sequence(problem)
    assert plain is not None
    assert best is not None
    assert excess_to_save(model) > 0
    runs = [simulate(problem.graph, problem.costs, problem.budget, sequence_schedule(model, one))
            for one in (best, plain)]  # fmt: skip
    assert runs[0].energy_joules <= runs[1].energy_joules
