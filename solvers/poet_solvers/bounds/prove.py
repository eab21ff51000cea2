"""Lower bounds from the first-run relaxation: an LP bound in exact arithmetic, then a MILP's.

    lp_bound    HiGHS hints at multipliers, `Rows.bound` computes what they prove     (proven here)
    milp_bound  the same rows with whole numbers, what CBC or HiGHS says it proved    (claimed)

Both hold for every schedule whose first runs are in document order (of any order for the any-order
cover), limits on time, energy and
flash notwithstanding: those only make schedules dearer.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from poet_core.plan import Bound, HoldsFor, Problem
from poet_solvers.backends import (
    BackendName,
    SolveLimits,
    SolveStatus,
    available_backends,
    solve_model,
)
from poet_solvers.bounds.any_order import AnyOrderCover
from poet_solvers.bounds.checkpoints import choose_checkpoints, over_budget_bytes
from poet_solvers.bounds.first_run import first_run_relaxation
from poet_solvers.bounds.prices import Prices, least_prices
from poet_solvers.bounds.rows import Rows, round_down
from poet_solvers.bounds.segments import Segments, lay_out
from poet_solvers.values import value_table

# Measured on 2 cores: an LP of this many columns takes HiGHS a second or two.
MOST_COLUMNS = 20_000
MOST_CHECKPOINTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The first-run relaxation of a problem, as it will be solved."""

    problem: Problem
    prices: Prices
    segments: Segments
    rows: Rows

    @property
    def holds_for(self) -> HoldsFor:
        """Schedules whose first runs are in document order."""
        return HoldsFor.GIVEN_ORDER

    @property
    def name(self) -> str:
        """What a bound says of it."""
        kind = "first-run relaxation" if self.segments.chains else "cover relaxation"
        return f"{kind} at {len(self.segments.checkpoints)} checkpoints"


def relax(
    problem: Problem,
    *,
    chains: bool,
    most_checkpoints: int = MOST_CHECKPOINTS,
    most_columns: int = MOST_COLUMNS,
) -> Relaxation:
    """The relaxation of `problem` at as many checkpoints as about `most_columns` columns allow.

    With `chains` a second run needs its inputs, without (the cover) it needs nothing.
    """
    table = value_table(problem.graph, problem.budget)
    prices = least_prices(problem)
    excess = over_budget_bytes(problem, table)
    most = most_checkpoints
    while True:
        checkpoints = choose_checkpoints(excess, most)
        segments = lay_out(problem, table, prices, checkpoints, chains=chains)
        if segments.columns <= most_columns or len(checkpoints) <= 1:
            break
        most = len(checkpoints) // 2
    rows = first_run_relaxation(problem, table, prices, segments)
    return Relaxation(problem=problem, prices=prices, segments=segments, rows=rows)


def lp_bound(
    relaxation: Relaxation | AnyOrderCover,
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
) -> Bound | None:
    """The bound that HiGHS's dual values prove; None where they prove nothing."""
    rows = relaxation.rows
    if not rows.rows or rows.contradiction or "highs" not in available_backends():
        return None
    result = solve_model(rows.to_pulp(whole=False), backend="highs", limits=limits, cancel=cancel)
    if not result.duals:
        return None
    proven = rows.bound(rows.multipliers(result.duals))
    if proven <= 0:
        return None
    return Bound(
        value=round_down(relaxation.prices.base + proven),
        holds_for=relaxation.holds_for,
        by=f"{relaxation.name}, LP, recomputed exactly from its multipliers",
    )


def milp_bound(
    relaxation: Relaxation | AnyOrderCover,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
) -> Bound | None:
    """What `backend` claims for the relaxation with whole numbers; None where it claims nothing."""
    rows = relaxation.rows
    if not rows.rows or rows.contradiction:
        return None
    result = solve_model(rows.to_pulp(whole=True), backend=backend, limits=limits, cancel=cancel)
    if result.status is SolveStatus.INFEASIBLE or result.bound is None or result.bound <= 0:
        return None
    return Bound(
        value=float(relaxation.prices.base) + result.bound,
        holds_for=relaxation.holds_for,
        by=f"{relaxation.name}, MILP, claimed by {result.backend}",
    )
