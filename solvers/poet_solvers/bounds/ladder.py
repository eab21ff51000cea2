"""One order's ladder: relaxations from quick and weak to slow and strong, one rung at a time.

    cover LP -> LP with chains -> MILP with chains at few checkpoints -> refined where its own
    decoded plan does not fit, again and again, until that plan fits: then it is the cheapest

Invariant: every bound that a rung gives speaks of schedules with this order of first runs; every
schedule that it gives is one of the original problem, and only the desk's judge says what it is
worth. After `finished` a rung would only repeat itself.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from poet_core.plan import Bound, Schedule
from poet_solvers.backends import BackendName, SolveLimits, SolveStatus, available_backends
from poet_solvers.bounds.orders import Ordered
from poet_solvers.bounds.prove import lp_bound, solve
from poet_solvers.bounds.read_point import schedule_of
from poet_solvers.bounds.refine import broken_moments
from poet_solvers.bounds.relaxation import Relaxation, relax_on, worst_positions

# Measured on steps of 90 to 730 ops: more checkpoints at first make the MILP slow and prove no more.
_FIRST_CHECKPOINTS = 12
_MOST_ADDED = 8
# Above this many columns a MILP does not end in any time that somebody waits.
_MOST_COLUMNS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rung gave: a bound, a schedule of the original problem, or neither."""

    bound: Bound | None = None
    schedule: Schedule | None = None


class Ladder:
    """The rungs of one order of first runs."""

    def __init__(self, ordered: Ordered, backend: BackendName, limits: SolveLimits) -> None:
        self._ordered, self._backend = ordered, backend
        self._limits = replace(limits, relative_gap=0.0, threads=1)
        self._grid = worst_positions(ordered.problem, _FIRST_CHECKPOINTS)
        self._rung = 0
        self.finished = False

    def climb(self, seconds: float, cancel: threading.Event) -> Found:
        """The next rung, within `seconds`."""
        limits = replace(self._limits, wall_seconds=max(0.1, seconds))
        self._rung += 1
        if self._rung == 1:
            return self._by_lp(limits, cancel)
        return self._by_milp(limits, cancel)

    def _by_lp(self, limits: SolveLimits, cancel: threading.Event) -> Found:
        if "highs" not in available_backends():
            return Found()
        relaxation = self._relaxation()
        return Found(bound=lp_bound(relaxation, limits, cancel))

    def _by_milp(self, limits: SolveLimits, cancel: threading.Event) -> Found:
        relaxation = self._relaxation()
        solved = solve(relaxation, self._backend, limits, cancel)
        if solved.status is not SolveStatus.OPTIMAL:
            # The same again would end the same; a cancelled one may be asked for again.
            self.finished = solved.status is not SolveStatus.CANCELLED
        if solved.point is None:
            return Found(bound=solved.bound)
        here = schedule_of(relaxation, solved.point)
        if not self.finished:
            self._refine(here)
        return Found(bound=solved.bound, schedule=self._ordered.schedule_back(here))

    def _refine(self, schedule: Schedule) -> None:
        broken = broken_moments(self._ordered.problem, schedule, _MOST_ADDED)
        finer = self._grid.union(broken)
        self.finished = finer == self._grid
        self._grid = finer

    def _relaxation(self) -> Relaxation:
        relaxation = relax_on(self._ordered.problem, self._grid, holds_for=self._ordered.holds_for)
        self.finished |= len(relaxation.rows.costs) > _MOST_COLUMNS
        return relaxation
