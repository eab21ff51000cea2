"""Proof: the best lower bound so far, and what is worth trying next for the time that is left.

    every op once (any order) -> LP of the first-run relaxation (exact) -> its MILPs (claimed)

A small problem skips the LP: the MILP is as quick there. Nothing is tried once the bound meets the
cost of a plan, and nothing raises where a solver fails: the bound is then what it was.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from poet_core.plan import Bound, Do, HoldsFor, Objective, Problem, Schedule
from poet_solvers.backends import BackendName, SolveLimits
from poet_solvers.bounds.any_order import AnyOrderCover, any_order_cover
from poet_solvers.bounds.prove import lp_bound, milp_bound
from poet_solvers.bounds.relaxation import MOST_CHECKPOINTS, Relaxation, relax

# Costs are sums of floats in the judge and exact here.
_ROUNDING = 1e-9
# Columns of a relaxation whose MILP takes no longer than starting another solver for its LP.
_SMALL_COLUMNS = 500
# Seconds: proving is worth a few, or a share of what the caller gives in all.
_LP_SECONDS = 10.0
_MILP_SECONDS = 4.0
_MILP_SHARE = 0.1
_LP_SHARE = 0.2
# With chains more checkpoints hardly lift the LP and make the MILP slow; its knapsacks do profit.
_LP_CHECKPOINTS = 16
_MILP_CHECKPOINTS = 32


class Proof:
    """The bound of one problem. `bound` never falls."""

    def __init__(
        self,
        problem: Problem,
        backend: BackendName,
        limits: SolveLimits,
        cancel: threading.Event | None = None,
    ) -> None:
        self._problem, self._backend = problem, backend
        self._limits, self._cancel = limits, cancel
        self.bound = self._any_order = _base_bound(problem)

    def bound_for(self, schedule: Schedule) -> Bound:
        """The bound that speaks of schedules like this one: of any order if it reorders."""
        return self.bound if _in_document_order(schedule) else self._any_order

    def meets(self, cost: float, schedule: Schedule) -> bool:
        """Whether no schedule that the bound for `schedule` speaks of costs less than `cost`."""
        return _is_met(self.bound_for(schedule), cost)

    def ends_search(self, cost: float, schedule: Schedule) -> bool:
        """Whether nothing that the problem allows can be cheaper, reordering included."""
        if self._problem.allowed.reorder:
            return _is_met(self._any_order, cost)
        return self.meets(cost, schedule)

    def take(self, bound: Bound | None) -> None:
        """Keep a bound that says more than the one so far."""
        if bound is None:
            return
        if bound.value > self.bound.value:
            self.bound = bound
        if bound.holds_for is HoldsFor.ANY_ORDER and bound.value > self._any_order.value:
            self._any_order = bound

    def by_lp(self, cost: float, left_seconds: float) -> None:
        """The LP bound, where the problem is large enough for it to be worth its while."""
        cover = relax(self._problem, chains=False)
        if self._done(cost) or len(cover.rows.costs) <= _SMALL_COLUMNS:
            return
        seconds = min(_LP_SECONDS, _LP_SHARE * left_seconds)
        relaxation = relax(self._problem, chains=True, most_checkpoints=_LP_CHECKPOINTS)
        self.take(lp_bound(relaxation, self._within(seconds), self._cancel))

    def by_milp(self, cost: float, schedule: Schedule, left_seconds: float) -> None:
        """The MILP bounds: the cover, then with chains of second runs if any could pay, at some
        checkpoints and at all. For a schedule that reorders, the any-order cover."""
        seconds = max(_MILP_SECONDS, _MILP_SHARE * self._limits.wall_seconds)
        seconds = min(seconds, left_seconds)
        if not _in_document_order(schedule):
            if not _is_met(self._any_order, cost):
                self._solve(any_order_cover(self._problem), seconds)
            return
        deadline = time.monotonic() + seconds
        cover = relax(self._problem, chains=False)
        if not self._done(cost):
            self._solve(cover, seconds / 2)
        if not any(cover.segments.reruns):
            return
        for checkpoints in (_MILP_CHECKPOINTS, MOST_CHECKPOINTS):
            left = deadline - time.monotonic()
            if self._done(cost) or left <= 0:
                return
            chains = relax(self._problem, chains=True, most_checkpoints=checkpoints)
            self._solve(chains, left)
            if len(chains.segments.checkpoints) < checkpoints:
                return

    def _solve(self, relaxation: Relaxation | AnyOrderCover, seconds: float) -> None:
        self.take(milp_bound(relaxation, self._backend, self._within(seconds), self._cancel))

    def _done(self, cost: float) -> bool:
        return _is_met(self.bound, cost) or (self._cancel is not None and self._cancel.is_set())

    def _within(self, seconds: float) -> SolveLimits:
        return replace(self._limits, wall_seconds=max(0.1, seconds), relative_gap=0.0)


def _in_document_order(schedule: Schedule) -> bool:
    runs = (one.target for one in schedule.instructions if one.do is Do.COMPUTE)
    firsts = list(dict.fromkeys(runs))
    return firsts == sorted(firsts)


def _is_met(bound: Bound, cost: float) -> bool:
    return cost <= bound.value * (1 + _ROUNDING)


def _base_bound(problem: Problem) -> Bound:
    costs = problem.costs
    energy = problem.objective is Objective.ENERGY
    return Bound(
        value=costs.base_joules if energy else costs.base_seconds,
        holds_for=HoldsFor.ANY_ORDER,
        by="every op runs at least once",
    )
