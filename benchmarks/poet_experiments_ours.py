"""Ours at a point, and ours with something taken away: what paging, recomputing and reordering are for.

    keep everything    nothing is paged, run again or reordered
    page only          nothing runs again
    remat only         nothing is paged
    given order        first runs in the given order
    ours, for time     all of it, for the least time instead of the least energy
    ours               all of it

Budgets come tightest first: a plan for less RAM is a plan, so each method begins from its own of the
budget before, and one that may do more also from the plans of those that may do less. Invariant:
every plan here comes from this project's planner; no other method's plan is ever looked at.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.poet_experiments_points import (
    HEADLINE_DEVICE,
    Answer,
    Method,
    PointContext,
    Scope,
    Series,
)
from poet_core.baseline import keep_everything
from poet_core.errors import BudgetError
from poet_core.plan import Objective, Plan, Problem, Schedule
from poet_solvers.backends import SolveLimits
from poet_solvers.evict import judged_cost
from poet_solvers.portfolio import solve

SOURCES = (
    "benchmarks/poet_experiments_ours.py",
    "poet_core/*.py",
    "solvers/poet_solvers/**/*.py",
    "solvers/native/*",
)

OURS, FOR_TIME = "ours", "ours, for time"
GIVEN_ORDER, REMAT_ONLY, PAGE_ONLY = "given order", "remat only", "page only"
KEEP_EVERYTHING = "keep everything"

# Ours gets all of a point's seconds, each of the others this share.
_SHARE = 0.5
# Where neither plan nor bound gets better for this share of the seconds, more would rarely help.
_PATIENCE_SHARE = 0.5
_THREADS = 2


def _keep(problem: Problem, _seconds: float, _context: PointContext) -> Answer:
    schedule = keep_everything(problem.graph)
    if judged_cost(problem, schedule) is None:
        raise BudgetError("Keep-everything does not fit.", code="does_not_fit")
    return schedule


def _page_only(problem: Problem, seconds: float, context: PointContext) -> Answer:
    less = replace(problem.allowed, rematerialize=False)
    return _solved(PAGE_ONLY, replace(problem, allowed=less), _SHARE * seconds, context)


def _remat_only(problem: Problem, seconds: float, context: PointContext) -> Answer:
    less = replace(problem.allowed, page=False)
    return _solved(REMAT_ONLY, replace(problem, allowed=less), _SHARE * seconds, context)


def _given_order(problem: Problem, seconds: float, context: PointContext) -> Answer:
    less = replace(problem.allowed, reorder=False)
    return _solved(GIVEN_ORDER, replace(problem, allowed=less), _SHARE * seconds, context)


def _for_time(problem: Problem, seconds: float, context: PointContext) -> Answer:
    other = replace(problem, objective=Objective.TIME)
    return _solved(FOR_TIME, other, _SHARE * seconds, context)


def _ours(problem: Problem, seconds: float, context: PointContext) -> Answer:
    return _solved(OURS, problem, seconds, context)


def _solved(method: str, problem: Problem, seconds: float, context: PointContext) -> Plan:
    """The planner's plan, begun from the cheapest that is known here and allowed there.

    Raises BudgetError (none can exist) and PlanningError (none was found).
    """
    known: dict[str, Schedule] = context.shared
    limits = SolveLimits(
        wall_seconds=seconds, patience_seconds=_PATIENCE_SHARE * seconds, threads=_THREADS
    )
    plan = solve(problem, limits, start=_cheapest(problem, known)).plan(context.graph_sha256)
    known[method] = plan.schedule
    return plan


def _cheapest(problem: Problem, known: dict[str, Schedule]) -> Schedule | None:
    costs = {name: judged_cost(problem, schedule) for name, schedule in known.items()}
    fitting = {name: cost for name, cost in costs.items() if cost is not None}
    return known[min(fitting, key=fitting.__getitem__)] if fitting else None


def _everywhere(_series: Series) -> bool:
    return True


def _at_the_headline(series: Series) -> bool:
    """Where acceptance looks. POET's lists keep their order and transfer in no time anyway."""
    return series.device == HEADLINE_DEVICE and series.scope is not Scope.PUBLISHED


OURS_METHODS: tuple[Method, ...] = (
    Method(
        name=KEEP_EVERYTHING,
        sources=("benchmarks/poet_experiments_ours.py", "poet_core/*.py"),
        run=_keep,
    ),
    *(
        Method(name=name, sources=SOURCES, run=run, group=OURS, applies=applies)
        for name, run, applies in (
            (PAGE_ONLY, _page_only, _everywhere),
            (REMAT_ONLY, _remat_only, _everywhere),
            (GIVEN_ORDER, _given_order, _at_the_headline),
            (FOR_TIME, _for_time, _at_the_headline),
            (OURS, _ours, _everywhere),
        )
    ),
)
