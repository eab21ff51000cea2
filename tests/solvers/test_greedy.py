"""The greedy planner against the judge, the exact oracle and the evict schedule."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs, costs_on
from poet_core.devices import load_device
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Problem
from poet_core.simulate import INSTRUCTIONS_PER_OP, simulate
from poet_solvers import plan, portfolio
from poet_solvers.backends import SolveLimits
from poet_solvers.evict import best_evict_schedule, judged_cost
from poet_solvers.greedy import greedy_schedule, greedy_sequence
from poet_solvers.occurrences import Sequence, sequence_schedule, step_model
from poet_solvers.values import value_table
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph
from tests.oracles.shortest_path import TooLarge, least_energy
from tests.solvers.milp_cases import unit_chain
from tests.solvers.mlp_step import mlp_adam_step

SMALL = (64, 96, 96, 10)

MODES = (
    Allowed(reorder=False),
    Allowed(page=False, reorder=False),
    Allowed(rematerialize=False, reorder=False),
)


def adam_problem(share: float) -> Problem:
    """A whole step, its RAM `share` of the way from the floor to keep-everything."""
    graph = mlp_adam_step(SMALL)
    costs = costs_on(graph, load_device("raspberry-pi-4b"))
    peak = judge_keep_everything(graph, costs).peak_bytes
    floor = ram_floor(graph, Budget(ram_bytes=peak)).floor_bytes
    budget = Budget(ram_bytes=floor + int(share * (peak - floor)))
    return Problem(graph=graph, costs=costs, budget=budget)


def problem_of(seed: int, most_ops: int, slack: int) -> Problem:
    """RAM from the floor of its mode to `slack` bytes above it, no other limit."""
    rng = Random(seed)
    graph = random_graph(rng, Shape(most_ops=most_ops))
    allowed = MODES[seed % len(MODES)]
    budget = random_budget(rng, 0)
    floor = ram_floor(graph, budget, paging=allowed.page).floor_bytes
    budget = replace(
        budget, ram_bytes=floor + rng.randint(0, slack), overlap=False, flash_bytes=None,
        flash_write_bytes=None, step_seconds=None, energy_joules=None,
    )  # fmt: skip
    return Problem(
        graph=graph, costs=random_costs(rng, graph, idle=False), budget=budget, allowed=allowed
    )


def test_the_judge_accepts_every_sequence_and_with_paging_there_always_is_one() -> None:
    counts: Counter[str] = Counter()
    for seed in range(3000):
        problem = problem_of(seed, most_ops=16, slack=6)
        model = step_model(problem)
        sequence = greedy_sequence(model)
        if sequence is None:
            assert not problem.allowed.page, seed
            counts["none"] += 1
            continue
        schedule = sequence_schedule(model, sequence)
        if len(schedule.instructions) > INSTRUCTIONS_PER_OP * len(problem.graph.ops):
            continue
        # raises where the judge refuses
        simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
        runs = Counter(one.target for one in schedule.instructions if one.do is Do.COMPUTE)
        counts["second runs"] += max(runs.values()) > 1
        counts["page_ins"] += any(one.do is Do.PAGE_IN for one in schedule.instructions)
    assert counts["second runs"] > 100
    assert counts["page_ins"] > 1000
    assert counts["none"] < 600


def test_a_sequence_with_everything_held_is_keep_everything() -> None:
    problem = adam_problem(1.0)
    model = step_model(problem)
    everything = Sequence(
        runs=tuple((op.id, op.id) for op in problem.graph.ops),
        paged=frozenset(),
        start_ram=model.persistent,
    )
    schedule = sequence_schedule(model, everything)
    assert {one.do for one in schedule.instructions} <= {Do.COMPUTE, Do.FREE}
    assert judged_cost(problem, schedule) == pytest.approx(problem.costs.base_joules)


def test_it_is_never_below_the_exact_oracle_and_mostly_equal() -> None:
    compared = equal = 0
    for seed in range(400):
        problem = problem_of(seed, most_ops=5, slack=5)
        schedule = greedy_schedule(problem)
        try:
            best = least_energy(
                problem.graph, problem.costs, problem.budget, given_order=True,
                page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
                most_states=1_500,
            )  # fmt: skip
        except TooLarge:
            continue
        if schedule is None:
            continue
        assert best is not None, seed
        cost = judged_cost(problem, schedule)
        assert cost is not None
        assert cost >= best.energy_joules, seed
        compared += 1
        equal += cost == best.energy_joules
    assert compared > 200
    assert equal > 0.6 * compared


def test_it_is_much_cheaper_than_evicting() -> None:
    """On random graphs near the floor, in sum over those with paging."""
    greedy = evict = 0.0
    for seed in range(0, 900, 3):
        problem = problem_of(seed, most_ops=16, slack=6)
        table = value_table(problem.graph, problem.budget)
        ours, theirs = greedy_schedule(problem), best_evict_schedule(problem, table)
        if ours is None or theirs is None:
            continue
        base = problem.costs.base_joules
        greedy += (judged_cost(problem, ours) or 0.0) - base
        evict += (judged_cost(problem, theirs) or 0.0) - base
    assert 0 < greedy < 0.9 * evict


def test_a_persistent_storage_of_several_versions_may_begin_in_flash() -> None:
    problem = adam_problem(0.1)
    schedule = greedy_schedule(problem)
    assert schedule is not None
    assert schedule.start_flash
    assert schedule.start_ram != tuple(sorted(step_model(problem).persistent))


def test_two_calls_give_the_same_schedule() -> None:
    problem = adam_problem(0.3)
    assert greedy_schedule(problem) == greedy_schedule(problem)


def test_when_stopped_before_it_fits_it_has_nothing() -> None:
    problem = adam_problem(0.1)
    assert greedy_schedule(problem, stop=lambda: True) is None


def test_without_paging_the_planner_has_a_plan_before_the_solver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """This chain takes the solver minutes; the plan is greedy's, judged, and says so."""
    monkeypatch.setattr(portfolio, "search_schedule", lambda problem, **_: None)
    problem = unit_chain(22, 9, 5.0, Allowed(page=False, reorder=False))
    answer = plan(problem, limits=SolveLimits(wall_seconds=0.4, threads=1))
    assert answer.planned_by.formulation.startswith("greedy")
    simulate(problem.graph, problem.costs, problem.budget, answer.schedule, problem.allowed)
    assert "Optimal" not in answer.planned_by.status


@pytest.mark.timeout(60)
def test_a_dense_graph_does_not_branch_without_end() -> None:
    """Every value has ways back through 18 others: to look at all chains would take for ever."""
    rng = Random(0)
    count = 120
    reads = [sorted(rng.sample(range(max(0, i - 40), i), min(i, 18))) for i in range(count)]
    graph = TrainingGraph(
        storages=tuple(
            Storage(id=i, name=f"s{i}", size_bytes=rng.randint(1, 100), role=Role.ACTIVATION)
            for i in range(count)
        ),
        ops=tuple(
            Op(
                id=i,
                name=f"o{i}",
                kind="k",
                phase=Phase.FORWARD,
                reads=tuple(reads[i]),
                writes=(i,),
            )
            for i in range(count)
        ),
    )
    costs = Costs(
        op_seconds=(1.0,) * count, op_joules=(1.0,) * count,
        page_in_seconds=(1.0,) * count, page_in_joules=(9.0,) * count,
        page_out_seconds=(1.0,) * count, page_out_joules=(9.0,) * count,
    )  # fmt: skip
    floor = ram_floor(graph, Budget(ram_bytes=1)).floor_bytes
    problem = Problem(graph=graph, costs=costs, budget=Budget(ram_bytes=floor + floor // 10))
    schedule = greedy_schedule(problem)
    assert schedule is not None
    assert simulate(graph, costs, problem.budget, schedule).peak_bytes <= problem.budget.ram_bytes
