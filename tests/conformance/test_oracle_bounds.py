"""The first-run relaxation against the exact oracle: never above it, and how often equal."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from random import Random

import highspy
import pytest

from poet_core.plan import Allowed, Do, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_solvers.bounds.any_order import AnyOrderCover, any_order_cover
from poet_solvers.bounds.prove import lp_bound, milp_bound
from poet_solvers.bounds.relaxation import Relaxation, relax
from poet_solvers.bounds.rows import Rows
from poet_solvers.evict import best_evict_schedule
from poet_solvers.greedy import greedy_schedule
from poet_solvers.values import value_table
from tests.oracles.generate import Shape, random_problem
from tests.oracles.planner_checks import ABSOLUTE, MODES
from tests.oracles.shortest_path import Best, TooLarge, least_energy

ANY_ORDER = (Allowed(), Allowed(rematerialize=False), Allowed(page=False))


def least_in_given_order(problem: Problem) -> Best | None:
    return least_energy(
        problem.graph, problem.costs, problem.budget, given_order=True,
        page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
        most_states=1_500,
    )  # fmt: skip


def solve_here(rows: Rows, *, whole: bool) -> tuple[float, dict[str, float]]:
    """The optimum and the row duals, by HiGHS in this process: thousands of tiny models."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("mip_rel_gap", 0.0)
    for column, cost in enumerate(rows.costs):
        solver.addVar(0, 1)
        solver.changeColCost(column, float(cost))
        if whole and rows.whole[column]:
            solver.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for row in rows.rows:
        columns = [column for column, _ in row.terms]
        # Bytes beside ones: unscaled, HiGHS gives up on some rows of many gigabytes.
        widest = max(abs(weight) for _, weight in row.terms)
        weights = [weight / widest for _, weight in row.terms]
        limit = row.right_hand_side / widest
        solver.addRow(-highspy.kHighsInf, limit, len(columns), columns, weights)
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    scaled = zip(rows.rows, solver.getSolution().row_dual, strict=True)
    duals = {
        f"c{number}": dual / max(abs(weight) for _, weight in row.terms)
        for number, (row, dual) in enumerate(scaled)
    }
    return solver.getInfo().objective_function_value, duals


def check_relaxations(seed: int, problems: int) -> Counter[str]:
    """Every relaxation of every problem against the oracle; what came out, counted."""
    rng = Random(seed)
    counts: Counter[str] = Counter()
    modes = list(MODES)
    for number in range(problems):
        problem = random_problem(rng, allowed=MODES[modes[number % len(modes)]])
        try:
            oracle = least_in_given_order(problem)
        except TooLarge:
            counts["too large for the oracle"] += 1
            continue
        if oracle is None:
            counts["no schedule"] += 1
            continue
        for chains in (True, False):
            # Any choice of checkpoints must be right: all, and one or two.
            most = rng.choice((256, 256, 1, 2))
            relaxation = relax(problem, chains=chains, most_checkpoints=most)
            value = checked_optimum(relaxation, oracle.energy_joules, rng)
            if oracle.energy_joules <= problem.costs.base_joules + ABSOLUTE:
                counts["base cost"] += 1
            elif most == 256:
                equal = value > oracle.energy_joules - ABSOLUTE
                counts[f"{'chains' if chains else 'cover'} {'equal' if equal else 'below'}"] += 1
    return counts


def checked_optimum(
    relaxation: Relaxation | AnyOrderCover, exact_joules: float, rng: Random
) -> float:
    """The relaxation's optimum, which the exact bound of any multipliers stays under."""
    rows, base = relaxation.rows, relaxation.prices.base
    assert not rows.contradiction
    if not rows.rows:
        return float(base)
    lp, duals = solve_here(rows, whole=False)
    optimum, _ = solve_here(rows, whole=True)
    assert float(base) + optimum <= exact_joules + ABSOLUTE
    proven = rows.bound(rows.multipliers(duals))
    assert abs(float(proven) - lp) <= ABSOLUTE
    anything = [Fraction(rng.randint(0, 8), 8) for _ in rows.rows]
    assert base + rows.bound(anything) <= Fraction(exact_joules)
    assert base + proven <= Fraction(exact_joules)
    return float(base) + optimum


def check_any_order(seed: int, problems: int) -> Counter[str]:
    """The any-order cover against the oracle for any order."""
    rng = Random(seed)
    counts: Counter[str] = Counter()
    for _ in range(problems):
        problem = random_problem(rng, allowed=rng.choice(list(ANY_ORDER)))
        try:
            oracle = least_energy(
                problem.graph, problem.costs, problem.budget,
                page=problem.allowed.page, rematerialize=problem.allowed.rematerialize,
                most_states=3_000,
            )  # fmt: skip
        except TooLarge:
            continue
        cover = any_order_cover(problem)
        if oracle is None or not cover.rows.rows:
            continue
        value = checked_optimum(cover, oracle.energy_joules, rng)
        if oracle.energy_joules > problem.costs.base_joules + ABSOLUTE:
            counts["equal" if value > oracle.energy_joules - ABSOLUTE else "below"] += 1
            counts["above base"] += value > problem.costs.base_joules + ABSOLUTE
    return counts


def test_the_any_order_cover_is_never_above_the_oracle_for_any_order() -> None:
    counts = check_any_order(seed=16, problems=400)
    assert counts["above base"] > 40


def test_no_relaxation_is_above_the_oracle() -> None:
    counts = check_relaxations(seed=11, problems=1000)
    assert counts["chains equal"] > 20 * counts["chains below"] > 0
    assert counts["cover equal"] > 5 * counts["cover below"] > 0
    assert counts["chains equal"] > 80


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_relaxation_is_above_the_oracle_20_000_problems() -> None:
    counts = check_relaxations(seed=12, problems=20_000)
    assert counts["chains equal"] > 20 * counts["chains below"]


def schedules_of(problem: Problem) -> Iterator[tuple[Schedule, Judgement]]:
    """Schedules in document order that the judge accepts, from planners that know no relaxation."""
    table = value_table(problem.graph, problem.budget)
    for schedule in (best_evict_schedule(problem, table), greedy_schedule(problem)):
        if schedule is None:
            continue
        runs = (one.target for one in schedule.instructions if one.do is Do.COMPUTE)
        firsts = list(dict.fromkeys(runs))
        if firsts == sorted(firsts):
            graph, costs, budget = problem.graph, problem.costs, problem.budget
            yield schedule, simulate(graph, costs, budget, schedule, problem.allowed)


def check_schedules(seed: int, schedules: int) -> Counter[str]:
    """Graphs too large for the oracle, with overlap and for time as well: no relaxation costs more
    than a schedule that the judge accepts."""
    rng = Random(seed)
    counts: Counter[str] = Counter()
    modes = list(MODES)
    while counts["schedules"] < schedules:
        problem = random_problem(rng, Shape(most_ops=14), MODES[rng.choice(modes)])
        objective = rng.choice(tuple(Objective))
        overlap = rng.random() < 0.5
        budget = replace(problem.budget, overlap=overlap)
        problem = replace(problem, budget=budget, objective=objective)
        for _schedule, judged in schedules_of(problem):
            counts["schedules"] += 1
            energy = objective is Objective.ENERGY
            cost = judged.energy_joules if energy else judged.step_seconds
            for chains in (True, False):
                most = rng.choice((256, 3))
                relaxation = relax(problem, chains=chains, most_checkpoints=most)
                optimum = checked_optimum(relaxation, cost, rng)
                if relaxation.segments.checkpoints:
                    counts["over budget"] += 1
                    counts["tight"] += optimum > cost - ABSOLUTE
    return counts


def test_no_relaxation_is_above_a_schedule_that_the_judge_accepts() -> None:
    counts = check_schedules(seed=14, schedules=300)
    assert counts["over budget"] > 200
    assert counts["tight"] > 50


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_relaxation_is_above_any_of_10_000_schedules() -> None:
    assert check_schedules(seed=15, schedules=10_000)["over budget"] > 5_000


def test_bounds_through_the_backends_are_below_the_oracle() -> None:
    rng = Random(13)
    compared = 0
    while compared < 12:
        problem = random_problem(rng, allowed=MODES["both"])
        try:
            oracle = least_in_given_order(problem)
        except TooLarge:
            continue
        relaxation = relax(problem, chains=True)
        by_lp = lp_bound(relaxation)
        if oracle is None or by_lp is None:
            continue
        compared += 1
        assert problem.costs.base_joules < by_lp.value <= oracle.energy_joules
        backends = ("cbc", "highs") if compared < 4 else ("cbc",)
        for backend in backends:
            by_milp = milp_bound(relaxation, backend)
            assert by_milp is not None
            assert by_lp.value - ABSOLUTE <= by_milp.value <= oracle.energy_joules + ABSOLUTE
