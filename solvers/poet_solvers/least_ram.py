"""`least_ram`: the least RAM whose plan costs at most x% more than keeping everything.

    floor |== proven too small ==|-- nobody knows --|== the plan found needs no more ==| peak

Bounds push from the left, plans from the right. A plan found moves the right end to its judged peak,
which is below the budget that was tried; a budget at which none was found is only tried again by
way of the ones between.

Invariant: the plan was judged within `ram_bytes` and costs at most `allowed_cost`; every `TooSmall`
is proven.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from poet_core.bounds import RamFloor, check_above_floor
from poet_core.errors import PlanningError, UsageError
from poet_core.plan import HoldsFor, Plan, Problem, Schedule
from poet_core.plan_request import BackendChoice
from poet_core.simulate import Judgement
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import ROUNDING, Progress, base_cost
from poet_solvers.frontier_points import everything_kept, with_ram
from poet_solvers.frontier_work import stopping_when
from poet_solvers.least_ram_bounds import Grid, TooSmall, below_floor, grid_of, largest_too_small
from poet_solvers.portfolio import PlannerName, solve
from poet_solvers.solution import Solution

# Of the time: bounds first, for they spare tries.
_BOUNDS_SHARE = 0.2
# Then plans: bisection down to a 32nd of the range, and the rest of the time from there.
_BISECTION_SHARE = 0.5
_COARSE_PARTS = 32
# A try that fails for want of time spoils a bisection: tries right below the plan get longer.
_TRIES = 5
_LEAST_SECONDS = 0.1


class LeastRamEnding(Enum):
    """How the query ended. Each member's value is its sentence."""

    PROVEN = "No plan with less RAM costs at most what is allowed, and that is proven."
    BISECTED = "No plan was found with less RAM; between that and what is proven nothing is known."
    TIME = "The time was up; less RAM may do."
    CANCELLED = "The query was cancelled; less RAM may do."

    @property
    def sentence(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """A budget that plans were looked for in, the least cost found there (None: no plan)."""

    ram_bytes: int
    cost: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastRam:
    """`plan` needs `ram_bytes` and costs at most `allowed_cost` (joules or seconds).

    `too_small`: what is proven too small, for any order and, where that is more, for the given one.
    """

    ram_bytes: int
    plan: Plan
    overhead: float
    base_cost: float
    allowed_cost: float
    too_small: tuple[TooSmall, ...]
    ending: LeastRamEnding
    tries: tuple[Try, ...]
    keep: Judgement
    floor: RamFloor
    wall_seconds: float

    @property
    def proven_above_bytes(self) -> int:
        """More than this much RAM is needed by every schedule that the problem allows."""
        return _proven_for(self.plan.allowed.reorder, self.too_small).ram_bytes


def least_ram(
    problem: Problem,
    *,
    overhead: float,
    limits: SolveLimits | None = None,
    backend: BackendChoice = "auto",
    planner: PlannerName = "portfolio",
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> LeastRam:
    """The least RAM found whose plan costs at most (1 + `overhead`) x keep-everything, by the
    problem's objective; its RAM budget is not looked at, its other limits are.

    `limits.wall_seconds` is for the whole query. `cancel` ends it within a second with the best so
    far. Raises UsageError (`overhead_invalid`) and BudgetError where another limit of the problem
    cannot be met with any RAM.
    """
    if not math.isfinite(overhead) or overhead < 0:
        raise UsageError(
            f"Expected an overhead of at least 0, got {overhead}.",
            code="overhead_invalid",
            hint="0.05 allows 5% more than keeping everything.",
        )
    ask = _Ask(
        limits=limits or SolveLimits(),
        backend=backend,
        planner=planner,
        on_progress=on_progress,
        cancel=cancel or threading.Event(),
    )
    return _Query(problem, overhead, ask).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ask:
    """How plans are looked for, who hears of it, and who may end it."""

    limits: SolveLimits
    backend: BackendChoice
    planner: PlannerName
    on_progress: Callable[[Progress], None] | None
    cancel: threading.Event


class _Query:
    """The best plan, what is proven too small, and the budgets that were tried in vain."""

    def __init__(self, problem: Problem, overhead: float, ask: _Ask) -> None:
        self._problem, self._overhead, self._ask = problem, overhead, ask
        self._limits, self._cancel, self._began = ask.limits, ask.cancel, time.monotonic()
        self._keep = everything_kept(problem)
        most = with_ram(problem, self._keep.peak_bytes)
        self._floor = check_above_floor(problem.graph, most.budget, paging=problem.allowed.page)
        self._grid: Grid = grid_of(problem, self._floor.floor_bytes, self._keep.peak_bytes)
        parts = (self._keep.peak_bytes - self._floor.floor_bytes) // _COARSE_PARTS
        self._coarse = max(self._grid.grain, parts // self._grid.unit * self._grid.unit)
        self._base = base_cost(problem)
        self._allowed = self._base * (1 + overhead) * (1 + ROUNDING)
        self._too_small = {HoldsFor.ANY_ORDER: below_floor(self._floor, self._grid.unit)}
        self._failed: list[tuple[int, Schedule]] = []
        self._tries: list[Try] = []

    def run(self) -> LeastRam:
        """Bounds, then plans."""
        peak = self._keep.peak_bytes
        kept = solve(with_ram(self._problem, peak), self._limits, cancel=self._cancel)
        self._plan = self._restated(kept)
        self._prove()
        self._bisect()
        self._descend()
        self._failed.clear()  # a start may also be a place to be stuck at
        self._limits = replace(self._limits, seed=self._limits.seed + 1)
        self._descend()
        verify(self._problem.graph, self._plan)
        return LeastRam(
            ram_bytes=self._plan.budget.ram_bytes,
            plan=self._plan,
            overhead=self._overhead,
            base_cost=self._base,
            allowed_cost=self._allowed,
            too_small=tuple(self._too_small.values()),
            ending=self._ending(),
            tries=tuple(self._tries),
            keep=self._keep,
            floor=self._floor,
            wall_seconds=time.monotonic() - self._began,
        )

    def _bisect(self) -> None:
        """Tries between what is proven and the plan, coarsely, in a share of the time."""
        low, ends = self._proven(), self._left_seconds() * (1 - _BISECTION_SHARE)
        while not self._stopped() and self._plan.budget.ram_bytes - low > self._coarse:
            middle = self._grid.between(low, self._plan.budget.ram_bytes)
            tries = math.log2((self._plan.budget.ram_bytes - low) / self._coarse)
            self._try(middle, (self._left_seconds() - ends) / max(1.0, math.ceil(tries)))
            if self._plan.budget.ram_bytes > middle:
                low = middle
            low = max(low, self._proven())

    def _descend(self) -> None:
        """Tries below the plan, in steps that double after a success and halve after a failure."""
        unit, step = self._grid.unit, self._coarse
        while step >= self._grid.grain and not self._stopped():
            before = self._plan.budget.ram_bytes
            ram_bytes = max(self._proven() + unit, before - step)
            if ram_bytes >= before:
                return
            self._try(ram_bytes, self._left_seconds() / _TRIES)
            if self._plan.budget.ram_bytes < before:
                step *= 2
            elif ram_bytes > before - step:  # just above what is proven
                return
            else:
                step = step // 2 // unit * unit

    def _prove(self) -> None:
        """What relaxations prove too small: for any order, and for the given one."""
        orders = (False, True) if self._problem.allowed.reorder else (True,)
        for given_order in orders:
            self._say("Looking for RAM that is certainly too little")
            self._learn(
                largest_too_small(
                    self._problem,
                    max(self._too_small.values(), key=lambda known: known.ram_bytes),
                    self._plan.budget.ram_bytes,
                    self._grid,
                    allowed_cost=self._allowed,
                    given_order=given_order,
                    seconds=_BOUNDS_SHARE * self._left_seconds() / len(orders),
                    cancel=self._cancel,
                )
            )

    def _learn(self, found: TooSmall) -> None:
        """Keep what says more; what holds for any order holds for the given one."""
        known = self._too_small
        of_its_kind = known.get(found.holds_for, known[HoldsFor.ANY_ORDER])
        if found.ram_bytes > of_its_kind.ram_bytes:
            known[found.holds_for] = found
        given, any_order = known.get(HoldsFor.GIVEN_ORDER), known[HoldsFor.ANY_ORDER]
        if given is not None and given.ram_bytes <= any_order.ram_bytes:
            del known[HoldsFor.GIVEN_ORDER]

    def _proven(self) -> int:
        known = tuple(self._too_small.values())
        return _proven_for(self._problem.allowed.reorder, known).ram_bytes

    def _try(self, ram_bytes: int, seconds: float) -> None:
        """Look for a plan within `ram_bytes` that is cheap enough."""
        began = time.monotonic()
        problem, solution = with_ram(self._problem, ram_bytes), None
        enough = threading.Event()
        starts = [start for failed, start in self._failed if failed <= ram_bytes]
        self._say(f"Trying {ram_bytes} bytes")
        # No plan within this budget is an answer too.
        with stopping_when(self._cancel.is_set, enough), contextlib.suppress(PlanningError):
            solution = solve(
                problem,
                replace(self._limits, wall_seconds=max(_LEAST_SECONDS, seconds)),
                None if self._limits.moves else lambda now: self._look(now, enough),
                cancel=enough,
                backend=self._ask.backend,
                planner=self._ask.planner,
                start=starts[-1] if starts else None,
            )
        cost = None if solution is None else solution.cost
        took = time.monotonic() - began
        self._tries.append(Try(ram_bytes=ram_bytes, cost=cost, seconds=took))
        if solution is not None:
            self._conclude(ram_bytes, solution)

    def _look(self, now: Progress, enough: threading.Event) -> None:
        """One plan that is cheap enough will do."""
        if now.incumbent is not None and now.incumbent <= self._allowed:
            enough.set()

    def _conclude(self, ram_bytes: int, solution: Solution) -> None:
        if solution.cost <= self._allowed:
            self._plan = self._restated(solution)
            return
        self._failed.append((ram_bytes, solution.schedule))
        self._failed.sort(key=lambda item: item[0])
        bound = solution.bound
        if bound.value > self._allowed and bound.holds_for is not HoldsFor.PLAN_ORDER:
            self._learn(
                TooSmall(
                    ram_bytes=ram_bytes,
                    holds_for=bound.holds_for,
                    by=bound.by,
                    least_cost=bound.value,
                )
            )

    def _restated(self, solution: Solution) -> Plan:
        """The plan for the RAM that it needs. Its bound holds there too: less RAM is no cheaper."""
        plan = solution.plan()
        status = (
            "The least RAM found for the cost allowed; cheaper plans for it were not looked for."
        )
        return replace(
            plan,
            budget=replace(plan.budget, ram_bytes=solution.judgement.peak_bytes),
            planned_by=replace(plan.planned_by, status=status),
        )

    def _ending(self) -> LeastRamEnding:
        if self._plan.budget.ram_bytes - self._grid.unit <= self._proven():
            return LeastRamEnding.PROVEN
        if self._cancel.is_set():
            return LeastRamEnding.CANCELLED
        return LeastRamEnding.TIME if self._left_seconds() <= 0 else LeastRamEnding.BISECTED

    def _stopped(self) -> bool:
        return self._cancel.is_set() or self._left_seconds() <= 0

    def _left_seconds(self) -> float:
        return self._limits.wall_seconds - (time.monotonic() - self._began)

    def _say(self, message: str) -> None:
        if self._ask.on_progress is not None:
            self._ask.on_progress(Progress(message=message, seconds=time.monotonic() - self._began))


def _proven_for(reorder: bool, known: tuple[TooSmall, ...]) -> TooSmall:
    """The largest budget that is too small for every schedule that a problem allows."""
    return max(
        (one for one in known if not reorder or one.holds_for is HoldsFor.ANY_ORDER),
        key=lambda one: one.ram_bytes,
    )
