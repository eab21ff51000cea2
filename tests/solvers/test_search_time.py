"""Searches for time: rounds that come to something early, and joules saved where no second is lost."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import pytest

from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Objective, Problem
from poet_solvers.backends import SolveLimits
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.native_problem import native_problem, native_start, sequence_of
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.portfolio import solve
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from tests.solvers.test_search_rules import judged

pytestmark = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def training(layers: int, *, held: int, page_seconds: float = 0.75) -> Problem:
    """Forward, backward and an update of each layer; RAM for `held` units of four bytes. The
    parameters and their states may live on flash, each activation is wanted again."""
    storages: list[Storage] = []
    ops: list[Op] = []

    def add(name: str, role: Role, *, persistent: bool = False) -> int:
        storages.append(
            Storage(id=len(storages), name=name, size_bytes=4, role=role, persistent=persistent)
        )
        return len(storages) - 1

    def run(
        name: str, phase: Phase, reads: list[int], writes: list[int], mutates: list[int]
    ) -> None:
        ops.append(
            Op(
                id=len(ops), name=name, kind="test", phase=phase, reads=tuple(reads),
                writes=tuple(writes), mutates=tuple(mutates), recomputable=not mutates,
            )
        )  # fmt: skip

    weight = [add(f"w{i}", Role.PARAMETER, persistent=True) for i in range(layers)]
    moment = [add(f"m{i}", Role.OPTIMIZER_STATE, persistent=True) for i in range(layers)]
    activation = [add(f"a{i}", Role.ACTIVATION) for i in range(layers)]
    for i in range(layers):
        run(f"f{i}", Phase.FORWARD, [weight[i], *activation[i - 1 : i]], [activation[i]], [])
    before: list[int] = []
    for i in reversed(range(layers)):
        gradient, passed = add(f"g{i}", Role.GRADIENT), add(f"p{i}", Role.GRADIENT)
        run(f"b{i}", Phase.BACKWARD, [activation[i], weight[i], *before], [gradient, passed], [])
        run(f"u{i}", Phase.UPDATE, [gradient], [], [weight[i], moment[i]])
        before = [passed]
    pages = (page_seconds,) * len(storages), (0.5,) * len(storages)
    return Problem(
        graph=TrainingGraph(storages=tuple(storages), ops=tuple(ops)),
        costs=Costs(
            op_seconds=(1.0,) * len(ops), op_joules=(1.0,) * len(ops),
            page_in_seconds=pages[0], page_in_joules=pages[1],
            page_out_seconds=pages[0], page_out_joules=pages[1],
        ),
        budget=Budget(ram_bytes=4 * held, overlap=True),
        objective=Objective.TIME,
        allowed=Allowed(reorder=False),
    )  # fmt: skip


def told(problem: Problem, moves: int, seed: int = 0) -> list[float]:
    """The cost of what the native search answers at its end, and of what it had at every look."""
    native: Any = importlib.import_module("poet_solvers._search")
    model = step_model(problem)
    start = best_greedy_sequence(problem)
    assert start is not None
    answer, _ = native.search(
        problem=native_problem(native, model), **native_start(model, start), seed=seed,
        moves=moves, seconds=0.0, price=0.01, check=False, poll=lambda _answer, _moves: True,
    )  # fmt: skip
    found = sequence_of(model, answer)
    assert found is not None
    return [answer[0], judged(problem, sequence_schedule(model, found)).step_seconds]


@pytest.mark.parametrize("seed", range(4))
def test_the_answers_cost_is_the_judges_seconds(seed: int) -> None:
    claimed, seconds = told(training(10, held=8), 20_000, seed)
    assert claimed == pytest.approx(seconds, rel=1e-12)


def test_of_plans_that_take_the_same_time_the_one_with_fewer_transfers_is_found() -> None:
    """Transfers are so quick that all of them hide: what is left to choose is how many."""
    problem = training(12, held=18, page_seconds=0.05)
    found = search_schedule(problem, limits=SearchLimits(moves=60_000))
    least = search_schedule(
        replace(problem, objective=Objective.ENERGY), limits=SearchLimits(moves=60_000)
    )
    assert found is not None
    assert least is not None
    by_time, by_energy = judged(problem, found), judged(problem, least)
    assert by_time.step_seconds <= by_energy.step_seconds
    assert by_time.energy_joules <= 1.06 * by_energy.energy_joules


@pytest.mark.alone
def test_a_long_limit_does_not_keep_the_clock_waiting() -> None:
    """With a third of the wall limit without the clock, patience ended the search before it."""
    problem = training(24, held=12)
    short = solve(problem, SolveLimits(wall_seconds=2, patience_seconds=1))
    long = solve(problem, SolveLimits(wall_seconds=600, patience_seconds=1))
    assert long.wall_seconds < 60
    assert long.cost <= 1.05 * short.cost


def test_the_same_moves_give_the_same_plan() -> None:
    problem = training(10, held=8)
    limits = SearchLimits(moves=5000, seed=3)
    assert search_schedule(problem, limits=limits) == search_schedule(problem, limits=limits)


def test_second_runs_that_no_transfer_waits_for_are_taken_back() -> None:
    """Without the clock a second run is cheaper than two transfers; beside compute those are free."""
    problem = training(12, held=18, page_seconds=0.6)
    serial = replace(problem, budget=replace(problem.budget, overlap=False))
    limits = SearchLimits(moves=60_000)
    beside, alone = search_schedule(problem, limits=limits), search_schedule(serial, limits=limits)
    assert beside is not None
    assert alone is not None
    ops = len(problem.graph.ops)
    assert judged(serial, alone).compute_runs >= ops + 4
    assert judged(problem, beside).compute_runs <= ops + 1
    assert judged(problem, beside).step_seconds <= 1.03 * problem.costs.base_seconds
