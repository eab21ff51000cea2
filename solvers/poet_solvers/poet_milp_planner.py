"""`planner=poet-milp`: POET's model as the judge counts, alone, on any problem that fits.

    Problem -> size check -> judged_model -> a solver -> decode -> judge -> Outcome

Invariant: a model that would not fit into memory is refused before it is built. The outcome carries
what the solver claims about the model, and says so where that is no bound for schedules outside it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from poet_core.plan import Objective, Problem
from poet_solvers.backends import BackendName, SolveLimits, SolveStatus
from poet_solvers.evict import best_evict_schedule
from poet_solvers.judged_search import Outcome, search
from poet_solvers.values import value_table


def poet_milp_plan(
    problem: Problem,
    *,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
    write_lp: Path | None = None,
    say: Callable[[str], None] = lambda _message: None,
) -> Outcome:
    """The best schedule of the judged model (POET, section 4) that `backend` finds within `limits`.

    Where the solver ends without a solution at a limit or by `cancel`, the outcome has the schedule
    that it was given to start from, if there is one. Raises PlanningError `model_too_large` above
    `model_input.MAX_DECISIONS`.
    """
    outcome = search(
        problem, backend=backend, limits=limits, cancel=cancel, write_lp=write_lp, say=say
    )
    if outcome.schedule is None:
        return _start_instead(problem, outcome)
    return replace(outcome, status=outcome.status + _about_bound(problem, outcome))


def _about_bound(problem: Problem, outcome: Outcome) -> str:
    if outcome.model_bound is None or outcome.bound is not None:
        return ""
    unit = "J" if problem.objective is Objective.ENERGY else "s"
    shown = f"{outcome.model_bound:.9g} {unit}"
    return f" The model's bound, {shown}, is none for schedules outside of the model."


def _start_instead(problem: Problem, outcome: Outcome) -> Outcome:
    if outcome.solve_status not in (
        SolveStatus.NOT_FOUND,
        SolveStatus.CANCELLED,
        SolveStatus.MEMORY,
        SolveStatus.FAILED,
    ):
        return outcome
    schedule = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
    if schedule is None:
        return outcome
    return replace(
        outcome,
        schedule=schedule,
        formulation=f"{outcome.formulation}, start (evict)",
        status=f"{outcome.status} What it was to start from is returned."
        + _about_bound(problem, outcome),
    )
