"""The judged MILP as a search: one model, one solve, the answer as a schedule that the judge takes.

`Outcome` says how it ended in the solver's words, that its optimum is one in the POET model, and
which lower bound follows for every schedule in the given order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from poet_core.baseline import judge_keep_everything
from poet_core.errors import PlanError, PlanningError
from poet_core.plan import Objective, Problem, Schedule
from poet_core.simulate import simulate
from poet_core.units import format_bytes
from poet_solvers.backends import BackendName, BackendResult, SolveLimits, SolveStatus, solve_model
from poet_solvers.decode import decode
from poet_solvers.evict import best_evict_schedule
from poet_solvers.milp_model import JudgedModel
from poet_solvers.model_input import FORMULATION, MAX_DECISIONS, ModelInput, model_input
from poet_solvers.poet_milp import BuildCancelledError, judged_model
from poet_solvers.polish import polish
from poet_solvers.warm_start import warm_start
from poet_solvers.windows import paging_replaces

# A solver may break a row by a rounding: then it gets that much less RAM, this often.
_ROUNDING_RETRIES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a search ended. `schedule` was accepted by the judge.

    `model_value` is the solver's objective for it: joules or seconds with transfers never hidden.
    `model_bound` is what the solver claims about the model. `bound` holds for every schedule in the
    given order; None where the model proves no such thing. `solver_memory_bytes`: the most RAM that
    the solver's process held.
    """

    solve_status: SolveStatus
    status: str
    solver: str
    formulation: str = FORMULATION
    schedule: Schedule | None = None
    model_value: float | None = None
    model_bound: float | None = None
    bound: float | None = None
    bound_by: str = ""
    solver_memory_bytes: int | None = None


def search(
    problem: Problem,
    *,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
    write_lp: Path | None = None,
    say: Callable[[str], None] = lambda _message: None,
    most_decisions: int = MAX_DECISIONS,
) -> Outcome:
    """One solve of the judged model of `problem` (again only after a rounding), as it is or not at
    all: raises PlanningError `model_too_large` above `most_decisions`, before it is built."""
    deadline = time.monotonic() + (limits or SolveLimits()).wall_seconds
    given = model_input(problem, most_decisions)
    start = best_evict_schedule(given.problem, given.table)
    start = start and polish(given.problem, start, cancel=cancel)
    margin_bytes = 0
    for _ in range(_ROUNDING_RETRIES + 1):
        try:
            model = judged_model(
                given.problem,
                table=given.table,
                windows=given.windows,
                margin_bytes=margin_bytes,
                cancel=cancel,
            )
        except BuildCancelledError:
            return Outcome(
                solve_status=SolveStatus.CANCELLED,
                status=SolveStatus.CANCELLED.sentence,
                solver="none",
            )
        if write_lp is not None:
            model.pulp_model.writeLP(str(write_lp))
        if model.contradiction is not None or not model.decisions:
            return _without_solver(problem, model)
        say(f"Solving {FORMULATION}: {model.decisions} decisions.")
        result = solve_model(
            model.pulp_model,
            backend=backend,
            limits=_until(deadline, limits or SolveLimits()),
            warm_start=None if start is None else warm_start(model, start),
            cancel=cancel,
        )
        if result.status is SolveStatus.INFEASIBLE and margin_bytes:
            break  # with less RAM than the problem has: that says nothing of the problem
        if not result.status.has_solution:
            return _unsolved(result)
        schedule = decode(model, result.values)
        over_bytes = _bytes_over(problem, schedule)
        if over_bytes is None:
            return _solved(given, result, schedule, margin_bytes)
        margin_bytes += over_bytes
    return Outcome(
        solve_status=SolveStatus.FAILED,
        status="Every answer of the solver broke a limit by a rounding.",
        solver=backend,
    )


def _until(deadline: float, limits: SolveLimits) -> SolveLimits:
    return replace(limits, wall_seconds=max(0.1, deadline - time.monotonic()))


def _bytes_over(problem: Problem, schedule: Schedule) -> int | None:
    """None where the judge accepts; else how many bytes the model must leave free."""
    try:
        simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    except PlanError as error:
        over = error.details.get("bytes_over")
        return over if error.code == "ram_exceeded" and isinstance(over, int) else 1
    return None


def _solved(
    given: ModelInput, result: BackendResult, schedule: Schedule, margin_bytes: int
) -> Outcome:
    what = "in the POET model"
    if margin_bytes:
        what += f" with {margin_bytes} bytes less RAM (a rounding)"
    if result.status is SolveStatus.OPTIMAL:
        status = f"Optimal {what}, claimed by {result.backend}."
    else:
        gap = result.relative_gap
        within = "no bound" if gap is None else f"within {gap:.2g} of its bound"
        status = f"A limit was reached: the best found {what}, {within}, by {result.backend}."
    proves = not margin_bytes and holds_for_given_order(given)
    return Outcome(
        solve_status=result.status,
        status=status,
        solver=result.backend,
        schedule=schedule,
        model_value=result.objective,
        model_bound=result.bound,
        bound=result.bound if proves else None,
        bound_by=f"{result.backend}, POET model without second runs (none can pay)",
        solver_memory_bytes=result.peak_memory_bytes,
    )


def holds_for_given_order(given: ModelInput) -> bool:
    """Whether the model's optimum is one over *all* schedules in the given order.

    True where no op can gain from running twice and no transfer can hide behind computation in what
    is minimised or limited: then every schedule has one of the model that costs no more
    (docs/formulation.md, "What is claimed").
    """
    problem = given.problem
    budget, costs = problem.budget, problem.costs
    if budget.flash_bytes is not None:
        return False
    time_counts = (
        problem.objective is Objective.TIME
        or budget.step_seconds is not None
        or costs.idle_watts > 0
    )
    if budget.overlap and time_counts:
        return False
    return not problem.allowed.rematerialize or all(
        not op.recomputable or paging_replaces(problem, given.table, op.id)
        for op in problem.graph.ops
    )


def _without_solver(problem: Problem, model: JudgedModel) -> Outcome:
    """A model without decisions, or with a row that no decision can satisfy."""
    schedule = None if model.contradiction else decode(model, {})
    if schedule is None or _bytes_over(problem, schedule) is not None:
        return Outcome(
            solve_status=SolveStatus.INFEASIBLE,
            status=f"No choice satisfies the row {model.contradiction}.",
            solver="none",
        )
    return Outcome(
        solve_status=SolveStatus.OPTIMAL,
        status="The POET model leaves one schedule.",
        solver="none",
        schedule=schedule,
    )


def _unsolved(result: BackendResult) -> Outcome:
    return Outcome(
        solve_status=result.status,
        status=result.message or result.status.sentence,
        solver=result.backend,
        model_bound=result.bound,
        solver_memory_bytes=result.peak_memory_bytes,
    )


_ENDS = {
    SolveStatus.INFEASIBLE: (
        "none_in_this_model",
        "The model has no schedule within the limits; schedules outside it may exist.",
    ),
    SolveStatus.CANCELLED: ("cancelled", "Planning was cancelled before a plan was found."),
    SolveStatus.NOT_FOUND: (
        "not_found_in_time",
        "No plan was found within the time; that proves nothing.",
    ),
}


def no_plan_error(problem: Problem, outcome: Outcome, tried: str = "") -> PlanningError:
    """The error of a search that ended without any schedule; `tried`: who looked for one."""
    budget = problem.budget
    peak_bytes = judge_keep_everything(
        problem.graph,
        problem.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    ).peak_bytes
    enough = f"{peak_bytes} bytes ({format_bytes(peak_bytes)}) of RAM are enough to keep everything"
    missing = []
    if not problem.allowed.page:
        missing.append("paging")
    if not problem.allowed.rematerialize:
        missing.append("rematerialization")
    hint = f"Allow {' or '.join(missing)}, or give more RAM: {enough}." if missing else (
        f"Relax the limits on time, energy or flash, or give more RAM: {enough}."
    )  # fmt: skip
    code, message = _ENDS.get(outcome.solve_status, ("solver_failed", outcome.status))
    if code == "not_found_in_time":
        hint = f"Give more time. {hint}"
        message = f"{message} {tried}".rstrip()
    return PlanningError(
        message,
        code=code,
        hint=hint,
        details={
            "solver": outcome.solver,
            "formulation": outcome.formulation,
            "keep_everything_bytes": peak_bytes,
        },
    )
