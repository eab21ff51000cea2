"""The local search against the judge, the exact oracle, greedy and itself; and without its core."""

from __future__ import annotations

import importlib.util
import math
import time
from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from poet_core.bounds import ram_floor
from poet_core.plan import Allowed, Do, Problem, Schedule
from poet_core.simulate import INSTRUCTIONS_PER_OP, simulate
from poet_solvers import Progress, plan, search
from poet_solvers.backends import SolveLimits
from poet_solvers.evict import judged_cost
from poet_solvers.greedy import greedy_sequence
from poet_solvers.occurrences import hold_everything, sequence_schedule, step_model
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from tests.measuring import least_seconds
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph
from tests.oracles.shortest_path import TooLarge, least_energy
from tests.solvers.milp_cases import unit_chain
from tests.solvers.search_cases import MODES

needs_native = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def problem_of(seed: int, most_ops: int, slack: int = 6) -> Problem:
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


def firsts_of(schedule_runs: list[int]) -> list[int]:
    return list(dict.fromkeys(schedule_runs))


@needs_native
def test_the_judge_accepts_what_it_finds_at_the_cost_that_it_says() -> None:
    """Moves that forget a byte, a copy or a version show here: the core has its own account."""
    counts: Counter[str] = Counter()
    for seed in range(1200):
        problem = problem_of(seed, most_ops=16)
        model = step_model(problem)
        start = greedy_sequence(model)
        limits = SearchLimits(moves=2_000, seed=seed)
        found = search._search(model, start or hold_everything(model), limits, None, None, None)
        if found is None:
            assert start is None, seed
            counts["none"] += 1
            continue
        schedule = sequence_schedule(model, found)
        if len(schedule.instructions) > INSTRUCTIONS_PER_OP * len(problem.graph.ops):
            continue
        figures = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
        if start is None:
            counts["greedy had none"] += 1
        else:
            before = judged_cost(problem, sequence_schedule(model, start))
            assert before is not None
            assert figures.energy_joules <= before, seed
            counts["cheaper than greedy"] += figures.energy_joules < before
        runs = [one.target for one in schedule.instructions if one.do is Do.COMPUTE]
        moved = firsts_of(runs) != sorted(set(runs))
        assert problem.allowed.reorder or not moved, seed
        counts["reordered"] += moved
    assert counts["cheaper than greedy"] > 50
    assert counts["greedy had none"] > 10
    assert counts["reordered"] > 50


@needs_native
def test_it_is_never_below_the_exact_oracle_and_mostly_equal() -> None:
    compared = equal = 0
    for seed in range(420):
        problem = problem_of(seed, most_ops=5)
        schedule = search_schedule(problem, limits=SearchLimits(moves=20_000, seed=1))
        try:
            best = least_energy(
                problem.graph, problem.costs, problem.budget,
                given_order=not problem.allowed.reorder, page=problem.allowed.page,
                rematerialize=problem.allowed.rematerialize, most_states=1_500,
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
    assert equal > 0.9 * compared


@needs_native
@pytest.mark.parametrize(("ram_bytes", "published"), [(3, 21.0), (4, 14.0), (5, 13.0), (6, 12.0)])
def test_it_finds_what_poet_published_for_its_unit_chain(ram_bytes: int, published: float) -> None:
    problem = unit_chain(5, ram_bytes, 5.0, Allowed(reorder=False))
    schedule = search_schedule(problem, limits=SearchLimits(moves=100_000))
    assert schedule is not None
    assert judged_cost(problem, schedule) == published


@needs_native
def test_a_seed_and_a_number_of_moves_fix_the_answer() -> None:
    problem = unit_chain(14, 6, 2.0, Allowed())
    limits = SearchLimits(moves=60_000, seed=5)
    answers = {search_schedule(problem, limits=limits) for _ in range(3)}
    assert len(answers) == 1
    assert None not in answers


@pytest.mark.alone
@needs_native
def test_it_stops_soon_after_being_asked_and_keeps_what_it_has() -> None:
    problem = unit_chain(22, 7, 5.0, Allowed())

    def attempt() -> float:
        begun = time.monotonic()
        schedule = search_schedule(
            problem, limits=SearchLimits(), stop=lambda: time.monotonic() > begun + 0.3
        )
        took = time.monotonic() - begun
        assert took > 0.25
        assert schedule is not None
        assert judged_cost(problem, schedule) is not None
        return took

    assert least_seconds(attempt, 0.8) < 0.8


@pytest.mark.alone
@needs_native
def test_a_wall_limit_ends_it() -> None:
    problem = unit_chain(22, 7, 5.0, Allowed())

    def attempt() -> float:
        begun = time.monotonic()
        assert search_schedule(problem, limits=SearchLimits(wall_seconds=0.3)) is not None
        return time.monotonic() - begun

    assert least_seconds(attempt, 1.3) < 1.3


@needs_native
def test_incumbents_are_reported_and_only_get_cheaper() -> None:
    heard: list[Schedule] = []
    problem = unit_chain(40, 9, 5.0, Allowed(page=False))
    last = search_schedule(
        problem, limits=SearchLimits(wall_seconds=0.6), on_incumbent=heard.append
    )
    assert heard[-1] == last
    costs = [judged_cost(problem, schedule) or math.inf for schedule in heard]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] < math.inf


@pytest.mark.alone
@needs_native
def test_the_planner_answers_with_it_where_it_is_best() -> None:
    problem = unit_chain(40, 9, 5.0, Allowed(page=False))
    methods = []
    for seconds in (3, 9, 27):  # a busy machine gives the search less of its share
        answer = plan(problem, limits=SolveLimits(wall_seconds=seconds, threads=1))
        methods.append(answer.planned_by.formulation)
        if methods[-1].startswith("search"):
            break
    assert methods[-1].startswith("search"), methods


def test_without_the_native_part_the_planner_works_and_says_what_it_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", nothing)
    assert "C++ compiler" in (native_missing() or "")
    problem = unit_chain(22, 9, 5.0, Allowed(page=False))
    assert search_schedule(problem, limits=SearchLimits(moves=10)) is None
    said: list[Progress] = []
    answer = plan(problem, limits=SolveLimits(wall_seconds=0.4, threads=1), on_progress=said.append)
    assert answer.planned_by.formulation.startswith("greedy")
    assert "local search is not built" in answer.planned_by.status
    assert any("local search is not built" in one.message for one in said)
