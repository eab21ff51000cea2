"""One order's ladder: relaxations from quick and weak to slow and strong, one rung at a time.

    LP with chains -> MILP at a few checkpoints -> the same, finer where its own decoded plan does
    not fit, again and again, until that plan fits: then no plan of this order is cheaper

A MILP that does not end in its share of the time is left for one that begins with more checkpoints:
which of them is quick cannot be told before. Invariant: every bound that a rung gives speaks of
schedules with this order of first runs; every schedule is one of the original problem, and only the
desk's judge says what it is worth. After `finished` a rung would only repeat itself.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace

from poet_core.plan import Bound, Schedule
from poet_solvers.backends import BackendName, SolveLimits, SolveStatus, available_backends
from poet_solvers.bounds.orders import Ordered
from poet_solvers.bounds.prove import Report, Solved, lp_bound, solve
from poet_solvers.bounds.read_point import schedule_of
from poet_solvers.bounds.refine import broken_moments
from poet_solvers.bounds.relaxation import (
    Grid,
    Relaxation,
    columns_on,
    relax_on,
    worst_positions,
)

# Measured on steps of 40 to 730 ops: what a MILP takes grows with its checkpoints, and by luck. The
# first that end within their share leave time for their refinements.
_CHECKPOINTS = (4, 8, 12, 24)
# More of them only let the LP split its decisions finer.
_LP_CHECKPOINTS = 4
_SHARE = 0.3
_LEAST_SECONDS = 1.0
_MOST_ADDED = 8
# A problem with fewer columns than this is solved at every checkpoint at once, without an LP before.
_SMALL_COLUMNS = 1_500
_ALL_CHECKPOINTS = 64
# Above this many columns a MILP does not end in any time that somebody waits.
_MOST_COLUMNS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rung gave: a bound, a schedule of the original problem, or neither."""

    bound: Bound | None = None
    schedule: Schedule | None = None


class Ladder:
    """The rungs of one order of first runs. `backend`: who solves the next MILP; `build_seconds`:
    what building the last model took."""

    def __init__(
        self,
        ordered: Ordered,
        backend: BackendName,
        limits: SolveLimits,
        report: Report | None = None,
    ) -> None:
        self._ordered, self.backend = ordered, backend
        self._limits = replace(limits, relative_gap=0.0, threads=1)
        self._report = report
        everywhere = worst_positions(ordered.problem, _ALL_CHECKPOINTS)
        small = columns_on(ordered.problem, everywhere) <= _SMALL_COLUMNS
        self._lp_due = not small and "highs" in available_backends()
        counts = (_ALL_CHECKPOINTS,) if small else _CHECKPOINTS
        grids = [worst_positions(ordered.problem, count) for count in counts]
        self._grids = list(dict.fromkeys(grids))
        self._slow: Grid | None = None
        self.finished = False
        self.build_seconds = 0.0

    def climb(self, seconds: float, cancel: threading.Event) -> Found:
        """The next rung, within `seconds`."""
        if self._lp_due:
            self._lp_due = False
            begun = time.monotonic()
            relaxation = self._relaxation(worst_positions(self._ordered.problem, _LP_CHECKPOINTS))
            return Found(
                bound=lp_bound(relaxation, self._within(seconds, begun), cancel, self._report)
            )
        if self._grids:
            share = seconds if len(self._grids) == 1 else max(_LEAST_SECONDS, _SHARE * seconds)
            return self._milp(self._grids.pop(0), min(seconds, share), cancel)
        grid, self._slow, self.finished = self._slow, None, True
        return Found() if grid is None else self._milp(grid, seconds, cancel)

    def _milp(self, grid: Grid, seconds: float, cancel: threading.Event) -> Found:
        begun = time.monotonic()
        if columns_on(self._ordered.problem, grid) > _MOST_COLUMNS:
            return Found()
        relaxation = self._relaxation(grid)
        solved = solve(relaxation, self.backend, self._within(seconds, begun), cancel, self._report)
        here = None if solved.point is None else schedule_of(relaxation, solved.point)
        self._go_on(grid, solved, here, cancelled=cancel.is_set())
        back = None if here is None else self._ordered.schedule_back(here)
        return Found(bound=solved.bound, schedule=back)

    def _go_on(self, grid: Grid, solved: Solved, here: Schedule | None, *, cancelled: bool) -> None:
        """What the next rung is."""
        if solved.status is SolveStatus.CANCELLED or cancelled:
            self._grids.insert(0, grid)
        elif solved.status is SolveStatus.OPTIMAL and here is not None:
            broken = broken_moments(self._ordered.problem, here, _MOST_ADDED)
            finer = grid.union(broken)
            if finer == grid:
                self._grids, self._slow, self.finished = [], None, True
            else:
                self._grids.insert(0, finer)
        elif solved.status in (SolveStatus.FEASIBLE, SolveStatus.NOT_FOUND):
            self._slow = grid
            if "highs" in available_backends():  # the quickest on these, where it was not asked for
                self.backend = "highs"
        else:  # it failed, or claims that nothing fits: no other grid is any better
            self._grids, self._slow, self.finished = [], None, True

    def _within(self, seconds: float, begun: float) -> SolveLimits:
        """What is left for the solver, building the model having begun at `begun`."""
        self.build_seconds = time.monotonic() - begun
        return replace(self._limits, wall_seconds=max(0.1, seconds - self.build_seconds))

    def _relaxation(self, grid: Grid) -> Relaxation:
        return relax_on(self._ordered.problem, grid, holds_for=self._ordered.holds_for)
