"""Addresses of the examples' training steps, traced here: how close the arena comes to the peak.

The limit is the peak of the plan as it was given. `benchmarks.addresses` measures more plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from poet_core.baseline import keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs, costs_on
from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import (
    Allowed,
    Budget,
    Objective,
    Plan,
    PlannedBy,
    Problem,
    Schedule,
)
from poet_core.simulate import simulate
from poet_solvers.addresses import place, shifted
from poet_solvers.evict import best_evict_schedule
from poet_solvers.values import value_table

pytest.importorskip("torch", reason="the steps are traced with torch")

BUDGET = Budget(ram_bytes=2**62, alignment_bytes=64, overlap=True)


@pytest.fixture(scope="module")
def graph_of() -> Callable[[str], TrainingGraph]:
    """The graph of a step of the examples, traced once."""
    import torch

    from examples import bert, mlp, resnet, vgg
    from poet_runtime.tracing.trace import trace

    torch.set_num_threads(1)
    steps = {"mlp": mlp.step, "vgg": vgg.step_small, "resnet": resnet.step_small,
             "bert": bert.step_tiny}  # fmt: skip
    traced: dict[str, TrainingGraph] = {}

    def graph(name: str) -> TrainingGraph:
        if name not in traced:
            traced[name] = trace(*steps[name](), measure_workspace=False).graph
        return traced[name]

    return graph


def plan_of(graph: TrainingGraph, costs: Costs, budget: Budget, schedule: Schedule) -> Plan:
    return Plan(
        graph_sha256=graph_sha256(graph),
        device_name="test",
        budget=budget,
        objective=Objective.ENERGY,
        allowed=Allowed(),
        costs=costs,
        schedule=schedule,
        claims=simulate(graph, costs, budget, schedule).claims,
        planned_by=PlannedBy(formulation="test", solver="none", status="given", wall_seconds=0.0),
    )


@pytest.mark.parametrize("name", ["mlp", "vgg", "resnet", "bert"])
def test_keep_everything_needs_no_more_than_its_peak(
    name: str, graph_of: Callable[[str], TrainingGraph]
) -> None:
    graph = graph_of(name)
    costs = costs_on(graph, load_device("raspberry-pi-4b"))
    addresses = place(graph, plan_of(graph, costs, BUDGET, keep_everything(graph)))
    assert addresses.ratio <= 1.0


def evicted(graph: TrainingGraph, share: float) -> Plan:
    """Eviction within the floor and this share of the way to keep-everything's peak."""
    costs = costs_on(graph, load_device("raspberry-pi-4b"))
    peak = simulate(graph, costs, BUDGET, keep_everything(graph)).peak_bytes
    floor = ram_floor(graph, BUDGET).floor_bytes
    budget = replace(BUDGET, ram_bytes=int(floor + share * (peak - floor)))
    problem = Problem(graph=graph, costs=costs, budget=budget)
    schedule = best_evict_schedule(problem, value_table(graph, budget))
    assert schedule is not None
    return plan_of(graph, costs, budget, schedule)


@pytest.mark.parametrize("name", ["mlp", "vgg", "resnet", "bert"])
@pytest.mark.parametrize("share", [0.75, 0.5, 0.25, 0.1, 0.05, 0.0])
def test_plans_that_page_need_no_more_than_their_peak_once_their_stays_are_short(
    name: str, share: float, graph_of: Callable[[str], TrainingGraph]
) -> None:
    graph = graph_of(name)
    plan = evicted(graph, share)
    short = shifted(graph, plan)
    assert short.claims.energy_joules <= plan.claims.energy_joules * (1 + 1e-9)
    assert short.claims.step_seconds <= plan.claims.step_seconds * (1 + 1e-9)
    addresses = place(graph, short, looks=1_000_000)
    assert addresses.arena_bytes <= plan.claims.peak_bytes


def test_with_moves_a_plan_near_the_floor_needs_its_peak_as_it_stands(
    graph_of: Callable[[str], TrainingGraph],
) -> None:
    graph = graph_of("vgg")
    plan = evicted(graph, 0.0)
    still = place(graph, plan, looks=400_000)
    moving = place(graph, plan, looks=400_000, allow_moves=True)
    assert still.arena_bytes > still.peak_bytes
    assert moving.arena_bytes == moving.peak_bytes
    assert 0 < moving.moved_bytes < 2 * moving.peak_bytes


def test_near_the_floor_the_search_does_better_than_any_greedy_order(
    graph_of: Callable[[str], TrainingGraph],
) -> None:
    graph = graph_of("vgg")
    plan = evicted(graph, 0.0)
    greedy = place(graph, plan, looks=1)
    searched = place(graph, plan, looks=1_000_000)
    assert greedy.found_by.startswith("greedy")
    assert searched.found_by == "ejection search"
    assert searched.arena_bytes < 0.9 * greedy.arena_bytes


def test_the_same_seed_gives_the_same_addresses(
    graph_of: Callable[[str], TrainingGraph],
) -> None:
    graph = graph_of("bert")
    plan = evicted(graph, 0.0)
    first = place(graph, plan, seed=7, looks=300_000)
    assert place(graph, plan, seed=7, looks=300_000) == first
