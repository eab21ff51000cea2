"""Lower bounds from a relaxation: an LP bound in exact arithmetic, a MILP's bound with its point.

    lp_bound    HiGHS hints at multipliers, `Rows.bound` computes what they prove     (proven here)
    solve       the same rows with whole numbers, what CBC or HiGHS says it proved    (claimed)

They hold for every schedule that the relaxation speaks of.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from poet_core.plan import Bound, HoldsFor
from poet_solvers.backends import (
    BackendName,
    BackendResult,
    SolveLimits,
    SolveStatus,
    available_backends,
    solve_model,
)
from poet_solvers.bounds.prices import Prices
from poet_solvers.bounds.rows import Rows, round_down


class Relaxed(Protocol):
    """What is proven with: a `Relaxation` or an `AnyOrderCover`."""

    @property
    def prices(self) -> Prices: ...

    @property
    def rows(self) -> Rows: ...

    @property
    def holds_for(self) -> HoldsFor: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """How a MILP ended: its bound, and the solver's best point by column, where it has them."""

    status: SolveStatus
    bound: Bound | None = None
    point: tuple[float, ...] | None = None


class Report(Protocol):
    """Hears what a solver said about the model of a relaxation."""

    def __call__(self, relaxation: Relaxed, result: BackendResult) -> None: ...


def lp_bound(
    relaxation: Relaxed,
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
    report: Report | None = None,
) -> Bound | None:
    """The bound that HiGHS's dual values prove; None where they prove nothing."""
    rows = relaxation.rows
    if not rows.rows or rows.contradiction or "highs" not in available_backends():
        return None
    result = solve_model(rows.to_pulp(whole=False), backend="highs", limits=limits, cancel=cancel)
    if report is not None:
        report(relaxation, result)
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


def solve(
    relaxation: Relaxed,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
    report: Report | None = None,
) -> Solved:
    """The relaxation with whole numbers."""
    rows = relaxation.rows
    if rows.contradiction:
        return Solved(status=SolveStatus.INFEASIBLE)
    if not rows.rows:  # every column is free to be nothing
        return Solved(status=SolveStatus.OPTIMAL, point=(0.0,) * len(rows.costs))
    result = solve_model(
        rows.to_pulp(whole=True),
        backend=backend,
        limits=limits,
        cancel=cancel,
    )
    if report is not None:
        report(relaxation, result)
    point = None
    if result.values:  # a column that is in no row and costs nothing is not in the model either
        point = tuple(result.values.get(f"v{n}", 0.0) for n in range(len(rows.costs)))
    bound = None
    if result.status is not SolveStatus.INFEASIBLE and result.bound is not None:
        bound = Bound(
            value=float(relaxation.prices.base) + max(0.0, result.bound),
            holds_for=relaxation.holds_for,
            by=f"{relaxation.name}, MILP, claimed by {result.backend}",
        )
    return Solved(status=result.status, bound=bound, point=point)


def milp_bound(
    relaxation: Relaxed,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    cancel: threading.Event | None = None,
) -> Bound | None:
    """What `backend` claims for the relaxation with whole numbers; None where it claims nothing."""
    return solve(relaxation, backend, limits, cancel).bound
