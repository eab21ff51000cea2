"""How much RAM is certainly too little for a cost: the floor, and bisection over lower bounds.

A relaxation under B bytes of RAM bounds every schedule that needs B bytes or less. Where that bound
is above the cost allowed, B is too small, and so is everything below it.

Invariant: a `TooSmall` is a proof for the schedules that it names; nothing else ends up in one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from poet_core.bounds import RamFloor
from poet_core.plan import HoldsFor, Problem
from poet_solvers.backends import SolveLimits
from poet_solvers.bounds.any_order import any_order_cover
from poet_solvers.bounds.prove import Relaxed, lp_bound, milp_bound
from poet_solvers.bounds.relaxation import relax
from poet_solvers.desk import ROUNDING
from poet_solvers.frontier_points import with_ram

# Columns up to which whole numbers are as quick as the LP (they say more).
_SMALL_COLUMNS = 500
# With chains of second runs more checkpoints hardly lift the LP.
_CHECKPOINTS = 16
_MOST_SECONDS = 5.0
_PARTS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TooSmall:
    """No schedule that `holds_for` names needs at most `ram_bytes` and costs what is allowed.

    `least_cost` is what such a schedule costs at least; None: there is none at any cost.
    """

    ram_bytes: int
    holds_for: HoldsFor
    by: str
    least_cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The budgets worth telling apart: every peak is the floor plus or minus a multiple of `unit`.

    `grain` is what a bisection stops at: the unit, or a 1024th of what lies between floor and peak.
    """

    unit: int
    grain: int

    def between(self, low: int, high: int) -> int:
        """A budget in the middle, a multiple of the unit above `low`."""
        units = (high - low) // self.unit
        return low + max(1, units // 2) * self.unit


def grid_of(problem: Problem, floor_bytes: int, peak_bytes: int) -> Grid:
    """The budgets of a problem."""
    budget, graph = problem.budget, problem.graph
    sizes = [
        *(storage.size_bytes for storage in graph.storages),
        *(op.workspace_bytes for op in graph.ops),
        graph.rng_state_bytes,
    ]
    unit = max(1, math.gcd(*(budget.rounded(size) for size in sizes)))
    parts = (peak_bytes - floor_bytes) // _PARTS // unit * unit
    return Grid(unit=unit, grain=max(unit, parts))


def below_floor(floor: RamFloor, unit: int) -> TooSmall:
    """What the RAM floor proves: for every order, at any cost."""
    return TooSmall(
        ram_bytes=floor.floor_bytes - unit,
        holds_for=HoldsFor.ANY_ORDER,
        by=f"the RAM floor, set by {floor.set_by}",
    )


def largest_too_small(
    problem: Problem,
    known: TooSmall,
    enough_bytes: int,
    grid: Grid,
    *,
    allowed_cost: float,
    given_order: bool,
    seconds: float,
    cancel: threading.Event,
) -> TooSmall:
    """The largest budget that bisection between `known` and `enough_bytes` proves too small, in the
    given order or in any. Every step bounds another budget; `known` where none proves more."""
    ends, best = time.monotonic() + seconds, known
    low, high = known.ram_bytes, enough_bytes
    while high - low > grid.grain and time.monotonic() < ends and not cancel.is_set():
        middle = grid.between(low, high)
        limits = SolveLimits(
            wall_seconds=min(_MOST_SECONDS, max(0.1, ends - time.monotonic())), threads=1
        )
        found = _too_small(
            with_ram(problem, middle), allowed_cost, _RELAXATIONS[given_order], limits, cancel
        )
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return best


def _given_order(problem: Problem) -> Relaxed:
    return relax(problem, chains=True, most_checkpoints=_CHECKPOINTS)


_RELAXATIONS: dict[bool, Callable[[Problem], Relaxed]] = {
    True: _given_order,
    False: any_order_cover,
}


def _too_small(
    problem: Problem,
    allowed_cost: float,
    relaxed: Callable[[Problem], Relaxed],
    limits: SolveLimits,
    cancel: threading.Event,
) -> TooSmall | None:
    relaxation = relaxed(problem)
    ram_bytes = problem.budget.ram_bytes
    if relaxation.rows.contradiction:
        return TooSmall(ram_bytes=ram_bytes, holds_for=relaxation.holds_for, by=relaxation.name)
    if len(relaxation.rows.costs) <= _SMALL_COLUMNS:
        bound = milp_bound(relaxation, "highs", limits, cancel)
    else:
        bound = lp_bound(relaxation, limits, cancel)
    if bound is None or bound.value <= allowed_cost * (1 + ROUNDING):
        return None
    return TooSmall(
        ram_bytes=ram_bytes, holds_for=bound.holds_for, by=bound.by, least_cost=bound.value
    )
