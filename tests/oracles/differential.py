"""CBC = HiGHS = the portfolio = brute force, one random problem at a time.

    oracle(any order) <= oracle(given order) <= judged MILP, the same by CBC and by HiGHS
    the portfolio, given order      = oracle(given order) where it says proven, never below it
    the portfolio, free to reorder  = oracle(any order) where it says proven, never below it
    a bound                         <= the oracle for the schedules that it speaks of
    no plan by any                  where the oracle finds none

Invariant: `compare` returns how the answers relate in one word, or raises Disagreement with the
problem in its message.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from unittest import mock

from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Allowed, HoldsFor, Problem, Schedule
from poet_core.simulate import simulate
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits, SolveStatus, highs_child
from poet_solvers.backends.process import ProcessEnd, ProcessResult
from poet_solvers.poet_milp_planner import poet_milp_plan
from poet_solvers.portfolio import solve
from poet_solvers.solution import Ending, Solution
from tests.oracles.generate import PLAIN, Shape, random_problem
from tests.oracles.planner_checks import (
    ABSOLUTE,
    MOVES,
    RELATIVE,
    Backend,
    Oracle,
    ask_oracle,
)
from tests.oracles.shortest_path import TooLarge

ALLOWED = (Allowed(), Allowed(rematerialize=False), Allowed(page=False))
_PROVEN_HERE = (Ending.FITS, Ending.PROVEN)


class Disagreement(AssertionError):
    """Two answers to one problem contradict each other."""


@contextmanager
def highs_in_this_process() -> Iterator[None]:
    """HiGHS without a process a solve, which takes longer than everything else of a tiny problem.

    All but the process is real: the model's text, the job and the answer. One thread at a time.
    """
    lock = threading.Lock()

    def run_solver(_command: Sequence[str], *, folder: Path, **_how: object) -> ProcessResult:
        with lock:
            before = Path.cwd()
            os.chdir(folder)
            try:
                highs_child.main("job.json")
            finally:
                os.chdir(before)
        return ProcessResult(end=ProcessEnd.EXITED, exit_status=0, log="")

    with mock.patch("poet_solvers.backends.solve.run_solver", run_solver):
        yield


def compare_many(
    seed: int, problems: int, *, reorder: bool, backend: Backend = "highs", shape: Shape = PLAIN
) -> Counter[str]:
    """`problems` random problems in every mode in turn; how the portfolio relates to brute force."""
    rng, counts = Random(seed), Counter[str]()
    for number in range(problems):
        allowed = replace(ALLOWED[number % len(ALLOWED)], reorder=reorder)
        problem = random_problem(rng, shape, allowed)
        try:
            oracle = ask_oracle(problem)
        except TooLarge:
            counts["too large for the oracle"] += 1
            continue
        counts[compare(problem, oracle, backend)] += 1
    return counts


def compare(problem: Problem, oracle: Oracle, backend: Backend) -> str:
    """The portfolio against brute force."""
    best = oracle.any_order if problem.allowed.reorder else oracle.given_order
    solution = answer_of(problem, backend)
    if solution is None:
        return "no plan" if best is None else "missed"
    verify(problem.graph, solution.plan())
    if best is None:
        raise Disagreement(f"a plan where brute force finds none: {problem}")
    check_bound(problem, solution, oracle)
    difference = solution.cost - best.energy_joules
    if difference < -ABSOLUTE:
        raise Disagreement(f"{solution.cost} is below {best.energy_joules}: {problem}")
    if difference <= ABSOLUTE:
        return "fits" if solution.ending is Ending.FITS else "equal"
    if solution.ending in _PROVEN_HERE or (
        solution.ending is Ending.PROVEN_FOR_ORDER and not problem.allowed.reorder
    ):
        raise Disagreement(f"{solution.cost} is not {best.energy_joules}, but proven: {problem}")
    return "above"


def answer_of(problem: Problem, backend: Backend) -> Solution | None:
    """The portfolio's answer; None where it says that it has none, rightly or not."""
    try:
        return solve(problem, MOVES, backend=backend)
    except BudgetError:
        return None
    except PlanningError as error:
        if error.code != "none_in_this_model":
            raise
        return None


def check_bound(problem: Problem, solution: Solution, oracle: Oracle) -> None:
    """No bound above the least energy of the schedules that it speaks of."""
    bound = solution.bound
    if bound.holds_for is HoldsFor.PLAN_ORDER:
        return
    speaks_of = oracle.given_order if bound.holds_for is HoldsFor.GIVEN_ORDER else oracle.any_order
    if speaks_of is None:
        return
    if bound.value > speaks_of.energy_joules * (1 + RELATIVE) + ABSOLUTE:
        raise Disagreement(f"{bound} is above {speaks_of.energy_joules}: {problem}")


def compare_solvers(
    seed: int, problems: int, backends: tuple[Backend, ...] = ("cbc", "highs")
) -> Counter[str]:
    """POET's judged MILP by every solver, against each other and the oracle for the given order."""
    rng, counts = Random(seed), Counter[str]()
    limits = SolveLimits(wall_seconds=60, threads=1)
    for number in range(problems):
        allowed = replace(ALLOWED[number % len(ALLOWED)], reorder=False)
        problem = random_problem(rng, PLAIN, allowed)
        try:
            oracle = ask_oracle(problem).given_order
        except TooLarge:
            continue
        values: list[float | None] = []
        for backend in backends:
            outcome = poet_milp_plan(problem, backend=backend, limits=limits)
            if outcome.solve_status not in (SolveStatus.OPTIMAL, SolveStatus.INFEASIBLE):
                raise Disagreement(f"{backend}: {outcome.status}: {problem}")
            values.append(judged_joules(problem, outcome.schedule))
        first = values[0]
        if not all(_same(first, value) for value in values):
            raise Disagreement(f"{backends} differ: {values}: {problem}")
        counts[_relation(problem, first, None if oracle is None else oracle.energy_joules)] += 1
    return counts


def judged_joules(problem: Problem, schedule: Schedule | None) -> float | None:
    """What the judge says that a schedule costs."""
    if schedule is None:
        return None
    judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    return judged.energy_joules


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= ABSOLUTE + RELATIVE * one


def _relation(problem: Problem, found: float | None, exact: float | None) -> str:
    if found is None:
        return "no plan" if exact is None else "outside of the model"
    if exact is None or found < exact - ABSOLUTE:
        raise Disagreement(f"{found} is below {exact}: {problem}")
    return "equal" if found <= exact + ABSOLUTE else "above"
