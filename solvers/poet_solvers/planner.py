"""`plan`: a problem goes in, a judged plan document's value comes out.

It is `portfolio.solve` for callers who want the plan and nothing about how it was found.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from poet_core.plan import Plan, Problem, Schedule
from poet_core.plan_request import BackendChoice
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import Progress
from poet_solvers.portfolio import PlannerName, solve

__all__ = ["Progress", "plan"]


def plan(
    problem: Problem,
    *,
    backend: BackendChoice = "auto",
    limits: SolveLimits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    write_lp: Path | None = None,
    planner: PlannerName = "portfolio",
    start: Schedule | None = None,
    on_incumbent: Callable[[Plan], None] | None = None,
) -> Plan:
    """The plan of `portfolio.solve`, which says what the arguments mean and what is raised."""
    return solve(
        problem,
        limits,
        on_progress,
        cancel=cancel,
        backend=backend,
        planner=planner,
        start=start,
        write_lp=write_lp,
        on_incumbent=on_incumbent,
    ).plan()
