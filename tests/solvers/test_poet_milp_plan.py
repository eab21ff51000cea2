"""`poet_solvers.plan`: judged plans, honest statuses and bounds, errors with their proofs."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from poet_core.bounds import ram_floor
from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Allowed, HoldsFor, Plan, Problem
from poet_core.verify import verify
from poet_solvers import Progress, plan
from poet_solvers.backends import SolveLimits
from tests.solvers.milp_cases import random_problems, unit_chain
from tests.solvers.mlp_step import mlp_adam_step, mlp_problem

SMALL = (64, 96, 96, 10)
ONE_THREAD = SolveLimits(wall_seconds=30, threads=1)


def checked(problem: Problem, answer: Plan) -> Plan:
    """The plan, judged, for the very problem, with a bound that is none above it."""
    verify(problem.graph, answer)
    assert (answer.budget, answer.costs) == (problem.budget, problem.costs)
    assert (answer.allowed, answer.objective) == (problem.allowed, problem.objective)
    assert answer.bound is not None
    assert answer.bound.value <= answer.objective_value * (1 + 1e-12)
    return answer


@pytest.mark.parametrize("share", [0.6, 0.5, 0.0])
@pytest.mark.parametrize("device", ["raspberry-pi-4b", "mkr1000"])
def test_the_demos_step_is_planned_with_a_bound(share: float, device: str) -> None:
    problem = mlp_problem(mlp_adam_step(), share, device)
    problem = replace(problem, allowed=Allowed(reorder=False))  # what the bound speaks of
    answer = checked(problem, plan(problem, limits=SolveLimits(wall_seconds=20)))
    assert answer.bound is not None
    assert answer.bound.holds_for is HoldsFor.GIVEN_ORDER
    assert answer.bound.value > problem.costs.base_joules
    overhead = answer.objective_value - problem.costs.base_joules
    assert answer.objective_value - answer.bound.value <= 0.25 * overhead
    assert answer.gap is not None
    assert answer.gap < 0.01


def test_keep_everything_is_answered_without_a_solver() -> None:
    problem = mlp_problem(mlp_adam_step(SMALL), 1.0)
    answer = checked(problem, plan(problem))
    assert answer.planned_by.solver == "none"
    assert answer.gap == 0
    assert answer.bound is not None
    assert answer.bound.holds_for is HoldsFor.ANY_ORDER


def test_below_the_floor_is_refused_at_once_with_the_proof() -> None:
    problem = mlp_problem(mlp_adam_step(SMALL), 0.0)
    floor = ram_floor(problem.graph, problem.budget)
    below = replace(problem.budget, ram_bytes=floor.floor_bytes - 1)
    with pytest.raises(BudgetError) as caught:
        plan(replace(problem, budget=below))
    assert caught.value.code == "ram_below_floor"
    assert caught.value.details["floor_bytes"] == floor.floor_bytes
    assert caught.value.details["op"] == floor.op_id
    exactly = replace(problem, budget=replace(below, ram_bytes=floor.floor_bytes))
    checked(exactly, plan(exactly, limits=ONE_THREAD))


@pytest.mark.parametrize(
    ("field", "base", "code"),
    [("step_seconds", "base_seconds", "time_below_base"),
     ("energy_joules", "base_joules", "energy_below_base")],
)  # fmt: skip
def test_limits_below_every_op_once_are_refused_with_the_proof(
    field: str, base: str, code: str
) -> None:
    problem = mlp_problem(mlp_adam_step(SMALL), 0.6)
    least = getattr(problem.costs, base)
    tight = replace(problem, budget=replace(problem.budget, **{field: 0.99 * least}))
    with pytest.raises(BudgetError) as caught:
        plan(tight)
    assert caught.value.code == code
    assert caught.value.details["base"] == least


def test_a_restricted_model_without_a_schedule_proves_nothing() -> None:
    problem = unit_chain(4, 3, 5.0, Allowed(page=False, rematerialize=False))
    with pytest.raises(PlanningError) as caught:
        plan(problem)
    assert caught.value.code == "none_in_this_model"
    assert "Allow paging or rematerialization" in caught.value.hint
    assert caught.value.details["keep_everything_bytes"] == 6


def test_a_solver_that_ran_out_of_time_says_so_and_proves_nothing() -> None:
    """Without paging, so near the floor, the MILP takes a solver minutes."""
    problem = unit_chain(22, 3, 5.0, Allowed(page=False))
    limits = SolveLimits(wall_seconds=0.05, threads=1)
    with pytest.raises(PlanningError) as caught:
        plan(problem, limits=limits, planner="poet-milp")
    assert caught.value.code == "not_found_in_time"


def test_with_paging_a_time_out_still_answers_with_a_plan() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.5)
    answer = checked(problem, plan(problem, limits=SolveLimits(wall_seconds=0.05, threads=1)))
    assert answer.planned_by.status.startswith("The time was up")


def test_a_cancelled_call_answers_with_what_it_has() -> None:
    problem = mlp_problem(mlp_adam_step(), 0.6)
    cancel = threading.Event()
    cancel.set()
    answer = checked(problem, plan(problem, cancel=cancel))
    assert answer.planned_by.formulation == "evict"
    assert answer.planned_by.status.startswith("The solve was cancelled")
    with pytest.raises(PlanningError) as caught:
        plan(unit_chain(6, 4, 5.0, Allowed(page=False)), cancel=cancel)
    assert caught.value.code == "cancelled"


def test_bounds_of_the_given_order_are_claimed_only_where_they_are_proven() -> None:
    page_only = unit_chain(3, 3, 5.0, Allowed(rematerialize=False))
    answer = checked(page_only, plan(page_only, limits=ONE_THREAD))
    assert answer.objective_value == pytest.approx(27)
    assert answer.gap == pytest.approx(0, abs=1e-12)
    assert answer.bound is not None
    assert answer.bound.holds_for is HoldsFor.ANY_ORDER
    answer = checked(page_only, plan(page_only, limits=ONE_THREAD, planner="poet-milp"))
    assert answer.gap == pytest.approx(0, abs=1e-12)
    assert answer.bound is not None
    assert answer.bound.holds_for in (HoldsFor.GIVEN_ORDER, HoldsFor.ANY_ORDER)
    both = unit_chain(3, 3, 5.0, Allowed())
    answer = checked(both, plan(both, limits=ONE_THREAD))
    assert answer.objective_value == pytest.approx(10)
    assert answer.bound is not None
    # Second runs pay: the model's optimum bounds only the model, the relaxation every schedule.
    assert answer.bound.value == pytest.approx(10)
    assert answer.bound.by.startswith("first-run relaxation")


def test_the_milp_alone_says_what_its_solver_claims() -> None:
    both = unit_chain(3, 3, 5.0, Allowed())
    answer = checked(both, plan(both, limits=ONE_THREAD, planner="poet-milp"))
    assert answer.objective_value == pytest.approx(10)
    assert answer.planned_by.formulation.startswith("poet-milp/judged")
    assert answer.planned_by.solver.startswith("cbc")
    assert answer.planned_by.model_bound == pytest.approx(10)
    assert "Optimal in the POET model, claimed by cbc" in answer.planned_by.status
    # Second runs pay: the model's optimum bounds only the model.
    assert answer.bound is not None
    assert answer.bound.value == both.costs.base_joules


def test_random_problems_get_judged_plans_or_errors_of_the_tree() -> None:
    plans = 0
    codes: set[str] = set()
    for _seed, problem in random_problems(range(20_000, 20_040), most_ops=8, limits=True):
        try:
            answer = plan(problem, backend="highs", limits=ONE_THREAD)
        except (PlanningError, BudgetError) as error:
            codes.add(error.code)
            continue
        checked(problem, answer)
        plans += 1
    assert codes <= {"none_in_this_model", "time_below_base"}
    assert plans > 20


def test_write_lp_keeps_the_model_and_progress_is_told(tmp_path: Path) -> None:
    said: list[Progress] = []
    problem = unit_chain(3, 4, 0.4, Allowed())
    plan(problem, limits=ONE_THREAD, write_lp=tmp_path / "m.lp", on_progress=said.append)
    text = (tmp_path / "m.lp").read_text(encoding="utf-8")
    assert "Minimize" in text
    assert "M_out_0_0" in text
    assert any("decisions" in item.message for item in said)


def test_importing_the_package_does_not_import_pulp() -> None:
    code = "import sys, poet_solvers; sys.exit('pulp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
