"""Depth: what first plans of deep networks cost to make, what they cost, and that they always exist."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import pytest

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.plan import Allowed, Budget, Problem
from poet_core.simulate import simulate
from poet_solvers import greedy
from poet_solvers.evict import best_evict_schedule, judged_cost
from poet_solvers.greedy import best_greedy_sequence, greedy_schedule, greedy_sequence
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.polish import polish
from poet_solvers.repetition import repetition
from poet_solvers.values import value_table
from tests.solvers.gpt_step import GptShape, gpt_adam_step
from tests.solvers.mlp_step import mlp_adam_step

NEVER = 10**9
EVERYTHING = Allowed()
NO_PAGING = Allowed(page=False)


def problem_of(
    graph: TrainingGraph,
    share: float,
    allowed: Allowed = EVERYTHING,
    *,
    alignment_bytes: int = 64,
    reserved_bytes: int = 0,
) -> Problem:
    """At a share of keep-everything's peak, or at the floor plus 5% for share 0."""
    costs = costs_on(graph, load_device("raspberry-pi-4b"))
    budget = Budget(ram_bytes=1, alignment_bytes=alignment_bytes, reserved_bytes=reserved_bytes)
    peak = judge_keep_everything(
        graph, costs, alignment_bytes=alignment_bytes, reserved_bytes=reserved_bytes
    ).peak_bytes
    floor = ram_floor(graph, budget, paging=allowed.page).floor_bytes
    ram_bytes = int(share * peak) if share else -(-floor * 105 // 100)
    return Problem(
        graph=graph, costs=costs, budget=replace(budget, ram_bytes=ram_bytes), allowed=allowed
    )


def overhead(problem: Problem) -> float:
    schedule = greedy_schedule(problem)
    assert schedule is not None
    cost = judged_cost(problem, schedule)
    assert cost is not None
    return cost / problem.costs.base_joules - 1


def test_depth_adds_ops_and_no_classes() -> None:
    shallow, deep = (
        repetition(step_model(problem_of(gpt_adam_step(GptShape(layers=layers)), 0.5)))
        for layers in (6, 18)
    )
    assert len(deep.op_class) > 2.5 * len(shallow.op_class)
    assert max(deep.op_class) == max(shallow.op_class)
    assert max(deep.value_class) == max(shallow.value_class)
    # ... which is not because everything is alike
    assert max(deep.op_class) > 40


def test_ops_of_other_sizes_costs_or_surroundings_are_not_alike() -> None:
    classes = repetition(step_model(problem_of(mlp_adam_step((64, 96, 96, 96, 10)), 0.9))).op_class
    names = [op.name for op in mlp_adam_step((64, 96, 96, 96, 10)).ops]
    of = dict(zip(names, classes, strict=True))
    assert of["addmm:1"] != of["addmm:0"]  # another size
    assert of["addmm:2"] != of["addmm:3"]
    assert of["adam:w1"] == of["adam:w2"]


@pytest.mark.parametrize(
    ("share", "allowed"), [(0.5, EVERYTHING), (0.0, EVERYTHING), (0.5, NO_PAGING)]
)
def test_using_repetition_costs_no_more_than_not_using_it(
    share: float, allowed: Allowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of(gpt_adam_step(GptShape(layers=12)), share, allowed)
    monkeypatch.setattr(greedy, "_LARGE", 0)
    used = overhead(problem)
    monkeypatch.setattr(greedy, "_LARGE", NEVER)
    assert 0 < used <= 1.005 * overhead(problem)


@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("share", [0.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_time_grows_about_linearly_with_depth(share: float) -> None:
    """Four times the depth takes about four times as long; eight would be a defect, and 16 is n^2."""
    taken = []
    for layers in (24, 96):
        problem = problem_of(gpt_adam_step(GptShape(layers=layers)), share)
        # The least of two: what comes between, a collection of garbage say, only adds.
        taken.append(min(_greedy_seconds(problem) for _ in range(2)))
    assert taken[1] < 8 * taken[0]
    assert taken[1] < 15


def _greedy_seconds(problem: Problem) -> float:
    # Collections of garbage would look through every test that was collected, too.
    gc.collect()
    gc.freeze()
    try:
        begun = time.process_time()
        assert best_greedy_sequence(problem) is not None
        return time.process_time() - begun
    finally:
        gc.unfreeze()


@pytest.mark.timeout(120)
def test_six_thousand_ops_have_judged_plans_in_seconds() -> None:
    problem = problem_of(gpt_adam_step(GptShape(layers=96)), 0.5)
    assert len(problem.graph.ops) >= 6000
    begun = time.process_time()
    evicted = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
    assert evicted is not None
    better = polish(problem, evicted)
    assert time.process_time() - begun < 20
    before, after = judged_cost(problem, evicted), judged_cost(problem, better)
    assert before is not None
    assert after is not None
    assert after <= before


@pytest.mark.parametrize("alignment_bytes", [1, 64, 4096])
@pytest.mark.parametrize("reserved_bytes", [0, 100_000])
@pytest.mark.parametrize("model", ["gpt", "mlp"])
def test_with_paging_every_whole_step_has_a_plan_at_the_floor_plus_5_percent(
    model: str, alignment_bytes: int, reserved_bytes: int
) -> None:
    graph = (
        gpt_adam_step(GptShape(layers=3)) if model == "gpt" else mlp_adam_step((64, 96, 96, 96, 10))
    )
    problem = problem_of(graph, 0, alignment_bytes=alignment_bytes, reserved_bytes=reserved_bytes)
    for limited in (problem, replace(problem, allowed=Allowed(rematerialize=False, reorder=False))):
        schedule = greedy_schedule(limited)
        assert schedule is not None
        figures = simulate(graph, limited.costs, limited.budget, schedule, limited.allowed)
        assert figures.peak_bytes <= limited.budget.ram_bytes
    sequence = greedy_sequence(step_model(problem))
    assert sequence is not None
    assert judged_cost(problem, sequence_schedule(step_model(problem), sequence)) is not None
