"""`planner=poet-milp`: POET's whole model as the judge counts, never grouped, on any problem that fits.

    Problem -> size check -> judged_model with every decision -> a solver -> decode -> judge -> Outcome

Invariant: what is solved is the exact scale (every value, every stage, every second run that the
model has), or nothing: a model that would not fit into memory is refused before it is built. The
outcome always names its formulation and carries what the solver claims about the model, and says so
where that claim is no bound for schedules outside of the model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from poet_core.errors import PlanningError
from poet_core.plan import Objective, Problem
from poet_solvers.backends import BackendName, SolveLimits, SolveStatus
from poet_solvers.evict import best_evict_schedule
from poet_solvers.judged_search import Outcome, search
from poet_solvers.scale import Scale, without_loose_limits
from poet_solvers.values import value_table
from poet_solvers.windows import possible_runs, second_run_count

# Measured: a decision takes 9 KB from its rows in PuLP to the solver's text; 60,000 take half a
# gigabyte and seconds, and no solver here closed a model of a tenth of that in minutes.
MAX_DECISIONS = 60_000


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
    MAX_DECISIONS.
    """
    scale = exact_scale(problem)
    outcome = search(
        problem,
        backend=backend,
        limits=limits,
        cancel=cancel,
        write_lp=write_lp,
        say=say,
        scale=scale,
    )
    if outcome.schedule is None:
        return _start_instead(problem, outcome)
    return replace(outcome, status=outcome.status + _about_bound(problem, outcome))


def exact_scale(problem: Problem) -> Scale:
    """The problem as it is, with every decision of the model; PlanningError where it is too large."""
    problem = without_loose_limits(problem)
    table = value_table(problem.graph, problem.budget)
    second_runs = second_run_count(problem, table)
    if second_runs > MAX_DECISIONS:
        raise _too_large(problem, second_runs)
    scale = Scale(grouped=None, problem=problem, table=table, windows=possible_runs(problem, table))
    if scale.decisions > MAX_DECISIONS:
        raise _too_large(problem, scale.decisions)
    return scale


def _too_large(problem: Problem, decisions: int) -> PlanningError:
    op_count = len(problem.graph.ops)
    return PlanningError(
        f"POET's model of these {op_count} ops has at least {decisions} decisions; "
        f"at most {MAX_DECISIONS} are built.",
        code="model_too_large",
        hint="It grows with the square of the ops: use the portfolio, or forbid rematerialization.",
        details={"ops": op_count, "decisions": decisions, "max_decisions": MAX_DECISIONS},
    )


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
