"""The judged MILP against the judge, the exact oracle, POET's unit chains and itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.errors import PlanningError
from poet_core.plan import Allowed, Objective, Problem
from poet_core.simulate import simulate
from poet_solvers import judged_search
from poet_solvers.backends import SolveLimits, SolveStatus
from poet_solvers.decode import decode
from poet_solvers.judged_search import holds_for_given_order, search
from poet_solvers.model_input import model_input, without_loose_limits
from poet_solvers.poet_milp import judged_model
from poet_solvers.values import value_table
from tests.oracles.shortest_path import least_energy
from tests.solvers.milp_cases import objective_of, random_problems, solve_here, unit_chain

BOTH, REMAT, PAGE = Allowed(), Allowed(page=False), Allowed(rematerialize=False)
ONE_THREAD = SolveLimits(wall_seconds=60, threads=1)


def cost_here(problem: Problem, folder: Path) -> float | None:
    model = judged_model(problem)
    answer = solve_here(model, folder)
    return None if answer is None else objective_of(model, answer)


def test_the_judge_accepts_every_answer_at_the_models_own_cost(tmp_path: Path) -> None:
    solved = 0
    for seed, problem in random_problems(range(1000), most_ops=7, limits=True):
        model = judged_model(problem)
        answer = solve_here(model, tmp_path)
        if answer is None:
            budget = problem.budget
            unlimited = budget.flash_bytes is None and budget.flash_write_bytes is None
            always = problem.allowed.page and unlimited and budget.step_seconds is None
            assert not always, f"seed {seed}: with paging there is always a schedule"
            continue
        solved += 1
        schedule = decode(model, answer)
        judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
        energy = problem.objective is Objective.ENERGY
        cost = judged.energy_joules if energy else judged.step_seconds
        modelled = objective_of(model, answer)
        if problem.budget.overlap:  # the judge may hide transfers, the model never does
            assert cost <= modelled + 1e-9 * max(1.0, modelled), seed
        else:
            assert cost == pytest.approx(modelled, rel=1e-9, abs=1e-12), seed
    assert solved > 650


def test_it_never_beats_the_oracle_and_meets_it_where_it_claims_to(tmp_path: Path) -> None:
    claimed = equal = compared = 0
    for seed, problem in random_problems(range(600), most_ops=5, overlap=False):
        least = least_energy(
            problem.graph, problem.costs, problem.budget, given_order=True,
            page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
        )  # fmt: skip
        cost = cost_here(problem, tmp_path)
        claims = holds_for_given_order(model_input(problem))
        if cost is None:
            assert least is None or not claims, seed
            continue
        assert least is not None, seed
        compared += 1
        assert least.energy_joules <= cost + 1e-9, seed
        same = cost == pytest.approx(least.energy_joules, abs=1e-9)
        equal += same
        claimed += claims
        assert same or not claims, f"seed {seed}: {cost} is claimed, {least.energy_joules} exists"
    assert claimed > 200
    assert equal > 0.97 * compared


@pytest.mark.parametrize(
    ("depth", "ram_bytes", "page_cost", "both", "remat", "page"),
    [
        (3, 3, 5.0, 10, 10, 27), (3, 4, 5.0, 8, 8, 17), (3, 5, 5.0, 7, 7, 7),
        (4, 3, 5.0, 15, 15, 39), (4, 4, 5.0, 11, 11, 29), (4, 5, 5.0, 10, 10, 19),
        (4, 6, 5.0, 9, 9, 9), (5, 3, 5.0, 21, 21, 51), (5, 4, 5.0, 14, 14, 41),
        (5, 5, 5.0, 13, 13, 31), (5, 6, 5.0, 12, 12, 21), (5, 7, 5.0, 11, 11, 11),
        (4, 3, 0.6, 12.4, None, None), (4, 4, 0.6, 11.0, None, None),
        (5, 3, 0.6, 15.6, None, None), (5, 4, 0.6, 14.0, None, None),
        (6, 4, 0.6, 17.2, None, None),
    ],
)  # fmt: skip
def test_unit_chains_cost_what_poet_published(
    depth: int,
    ram_bytes: int,
    page_cost: float,
    both: float,
    remat: float | None,
    page: float | None,
    tmp_path: Path,
) -> None:
    for allowed, published in ((BOTH, both), (REMAT, remat), (PAGE, page)):
        if published is not None:
            problem = unit_chain(depth, ram_bytes, page_cost, allowed)
            assert cost_here(problem, tmp_path) == pytest.approx(published, abs=1e-9)


def test_cbc_and_highs_agree() -> None:
    compared = 0
    for seed, problem in random_problems(range(5000, 5018), most_ops=7):
        outcomes = [
            search(problem, backend=backend, limits=ONE_THREAD) for backend in ("cbc", "highs")
        ]
        values = [outcome.model_value for outcome in outcomes]
        assert outcomes[0].solve_status is outcomes[1].solve_status, seed
        if values[0] is not None:
            compared += 1
            assert values[0] == pytest.approx(values[1], abs=1e-9), seed
    assert compared > 8


def test_less_ram_never_costs_less(tmp_path: Path) -> None:
    steps = 0
    for seed, problem in random_problems(range(9000, 9060), most_ops=6, overlap=False):
        graph, budget = problem.graph, problem.budget
        floor = ram_floor(graph, budget, paging=problem.allowed.page).floor_bytes
        peak = judge_keep_everything(
            graph, problem.costs, reserved_bytes=budget.reserved_bytes,
            alignment_bytes=budget.alignment_bytes,
        ).peak_bytes  # fmt: skip
        before = problem.costs.base_joules
        for ram_bytes in range(peak, floor - 1, -1):
            cost = cost_here(
                replace(problem, budget=replace(budget, ram_bytes=ram_bytes)), tmp_path
            )
            if cost is None:
                break
            assert cost >= before - 1e-9, (seed, ram_bytes)
            steps += cost > before + 1e-9
            before = cost
    assert steps > 20


def test_what_must_run_twice_in_one_stage_is_outside_the_model(tmp_path: Path) -> None:
    """The known restriction: solvers would need `C0 C1 C2 C3 R0 R1 R2 R0 C4`."""
    problem = unit_chain(2, 4, 5.0, REMAT)
    sizes, edges = (1, 3, 1, 4, 1), ((0, 1), (1, 2), (0, 4), (2, 4))
    graph = problem.graph
    graph = replace(
        graph,
        storages=tuple(
            replace(s, size_bytes=size) for s, size in zip(graph.storages, sizes, strict=True)
        ),
        ops=tuple(replace(op, reads=tuple(a for a, b in edges if b == op.id)) for op in graph.ops),
    )
    least = least_energy(
        graph, problem.costs, problem.budget, given_order=True, page=False, rematerialize=True
    )
    assert least is not None
    assert least.energy_joules == 9
    assert cost_here(replace(problem, graph=graph), tmp_path) is None


def test_a_random_op_that_runs_again_pays_for_its_generator_state(tmp_path: Path) -> None:
    free = unit_chain(3, 4, 5.0, REMAT)
    ops = tuple(replace(op, random=True) for op in free.graph.ops)
    graph = replace(free.graph, ops=ops, rng_state_bytes=1)
    assert cost_here(free, tmp_path) == 8
    held = cost_here(replace(free, graph=graph), tmp_path)
    assert held is None or held > 8


def test_limits_that_nothing_can_reach_are_dropped_and_others_kept() -> None:
    problem = unit_chain(3, 4, 5.0, BOTH)
    total = sum(v.flash_bytes for v in value_table(problem.graph, problem.budget).values)
    loose = replace(problem.budget, flash_bytes=total, flash_write_bytes=total)
    tight = replace(problem.budget, flash_bytes=total - 1, flash_write_bytes=total - 1)
    dropped = without_loose_limits(replace(problem, budget=loose)).budget
    assert (dropped.flash_bytes, dropped.flash_write_bytes) == (None, None)
    assert without_loose_limits(replace(problem, budget=tight)).budget == tight


def test_the_size_is_known_nearly_before_the_model_is_built() -> None:
    for seed, problem in random_problems(range(60), most_ops=8):
        given = model_input(problem)
        built = judged_model(given.problem, table=given.table, windows=given.windows).decisions
        assert given.decisions / 3 - 3 <= built <= 2 * given.decisions, seed
        if given.decisions:
            with pytest.raises(PlanningError) as caught:
                model_input(problem, given.decisions - 1)
            assert caught.value.code == "model_too_large"


def test_a_rounding_that_leaves_nothing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge refuses the first answer by so much that the model with less RAM has none."""
    monkeypatch.setattr(judged_search, "_bytes_over", lambda _problem, _schedule: 1)
    outcome = search(unit_chain(3, 3, 5.0, BOTH), limits=ONE_THREAD)
    assert outcome.solve_status is SolveStatus.FAILED
    assert "by a rounding" in outcome.status
