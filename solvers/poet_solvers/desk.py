"""The desk: where everybody who looks for plans or for bounds meets.

    offer(by, schedule)  judged here; kept where nothing before it is cheaper (of two that cost the
                         same, the one that takes less time, or energy)
    take(bound)          kept where nothing before it says more
    met, done            whether anything is left to look for

Invariant: `best` was accepted by the judge for the very problem, its cost never rises, and the bound
speaks of schedules like it. Every method may be called from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from poet_core.errors import PlanError
from poet_core.plan import Bound, Do, HoldsFor, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_solvers.backends import SolveLimits

# The judge adds floats in the order of the schedule, bounds are exact: equal costs differ by this.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a planner has so far: a sentence, and joules or seconds by the problem's objective."""

    message: str
    seconds: float
    incumbent: float | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """A schedule that was the best when it was found: when (s), what it cost, who found it."""

    seconds: float
    cost: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A judged schedule. `order`: op ids by first run; `document_order`: whether that is 0, 1, ..."""

    cost: float
    schedule: Schedule
    judgement: Judgement
    by: str
    seconds: float
    order: tuple[int, ...]

    @property
    def document_order(self) -> bool:
        """Whether first runs come in document order."""
        return all(op == place for place, op in enumerate(self.order))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBound:
    """What a solver claims that no solution of a PuLP model can beat, whatever that proves."""

    value: float
    formulation: str
    solver: str


def cost_of(problem: Problem, judgement: Judgement) -> float:
    """Joules or seconds, by the problem's objective."""
    energy = problem.objective is Objective.ENERGY
    return judgement.energy_joules if energy else judgement.step_seconds


def _other_figure(problem: Problem, judgement: Judgement) -> float:
    energy = problem.objective is Objective.ENERGY
    return judgement.step_seconds if energy else judgement.energy_joules


def base_cost(problem: Problem) -> float:
    """What every op once costs, and nothing else."""
    costs = problem.costs
    return costs.base_joules if problem.objective is Objective.ENERGY else costs.base_seconds


def first_runs(schedule: Schedule) -> tuple[int, ...]:
    """The ops by their first run."""
    return tuple(dict.fromkeys(one.target for one in schedule.instructions if one.do is Do.COMPUTE))


class Desk:
    """The best schedule, the best bounds, the clock and the progress reports of one call."""

    def __init__(
        self,
        problem: Problem,
        limits: SolveLimits,
        on_progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> None:
        self.problem = problem
        self._limits, self._on_progress = limits, on_progress
        self._cancel = cancel or threading.Event()
        self._abandoned = threading.Event()
        self._started = self._improved = time.monotonic()
        self._lock = threading.RLock()
        self._best: Candidate | None = None
        self._history: list[Incumbent] = []
        every_op = Bound(
            value=base_cost(problem),
            holds_for=HoldsFor.ANY_ORDER,
            by="every op runs at least once",
        )
        self._any_order = self._given_order = every_op
        self._plan_orders: dict[tuple[int, ...], Bound] = {}
        self._model_bound: ModelBound | None = None
        self._solver_memory_bytes: int | None = None
        # Called within the lock, so it must neither wait nor ask this desk.
        self.on_better: Callable[[], None] = lambda: None

    def best(self) -> Candidate | None:
        """The cheapest schedule so far."""
        with self._lock:
            return self._best

    def standing(self) -> tuple[Candidate | None, Bound]:
        """The cheapest schedule so far and the bound that speaks of it, of one moment."""
        with self._lock:
            return self._best, self.bound()

    def history(self) -> tuple[Incumbent, ...]:
        """Every schedule that was the best for a while, in that order."""
        with self._lock:
            return tuple(self._history)

    def offer(self, by: str, schedule: Schedule | None) -> bool:
        """Judge a schedule; True where it is accepted and better than the best so far."""
        if schedule is None:
            return False
        problem = self.problem
        try:
            judgement = simulate(
                problem.graph, problem.costs, problem.budget, schedule, problem.allowed
            )
        except PlanError:
            return False
        cost = cost_of(problem, judgement)
        with self._lock:
            if self._best is not None and not self._better(cost, judgement, self._best):
                return False
            self._best = Candidate(
                cost=cost,
                schedule=schedule,
                judgement=judgement,
                by=by,
                seconds=self.elapsed_seconds(),
                order=first_runs(schedule),
            )
            self._improved = time.monotonic()
            self._history.append(Incumbent(seconds=self._best.seconds, cost=cost, by=by))
            self.on_better()
            self.say(f"Better plan by {by}")
        return True

    def _better(self, cost: float, judgement: Judgement, best: Candidate) -> bool:
        """Cheaper, or as cheap (not a rounding dearer) and better in what is not the objective."""
        if cost < best.cost * (1 - ROUNDING):
            return True
        other = _other_figure(self.problem, judgement)
        return cost <= best.cost and other < _other_figure(self.problem, best.judgement) * (
            1 - ROUNDING
        )

    def hear(self, by: str, schedule: Schedule) -> None:
        """`offer`, for those who do not ask what came of it."""
        self.offer(by, schedule)

    def take(self, bound: Bound | None, order: tuple[int, ...] | None = None) -> None:
        """Keep a bound that says more than the one so far; `order`: which a PLAN_ORDER one means."""
        if bound is None:
            return
        with self._lock:
            before = self.bound().value
            if bound.holds_for is HoldsFor.PLAN_ORDER:
                assert order is not None
                if bound.value > self._plan_orders.get(order, self._any_order).value:
                    self._plan_orders[order] = bound
            else:
                if bound.value > self._given_order.value:
                    self._given_order = bound
                if bound.holds_for is HoldsFor.ANY_ORDER and bound.value > self._any_order.value:
                    self._any_order = bound
            if self.bound().value > before:
                self._improved = time.monotonic()
                self.say(f"Better bound by {bound.by}")

    def bound(self) -> Bound:
        """The strongest bound that speaks of the best schedule (of the given order before there is
        one), at most its cost."""
        with self._lock:
            best = self._best
            if best is None:
                return self._any_order if self.problem.allowed.reorder else self._given_order
            bound = self._given_order if best.document_order else self._any_order
            other = self._plan_orders.get(best.order)
            if other is not None and other.value > bound.value:
                bound = other
            # A bound from floats may stand a rounding above the optimum that it bounds.
            return replace(bound, value=min(bound.value, best.cost))

    def model_bound(self, value: float, formulation: str, solver: str) -> None:
        """Note what a PuLP model's solver claims; the latest stays."""
        with self._lock:
            self._model_bound = ModelBound(value=value, formulation=formulation, solver=solver)

    def last_model_bound(self) -> ModelBound | None:
        """The latest claim about a PuLP model, if one was solved."""
        with self._lock:
            return self._model_bound

    def solver_held(self, memory_bytes: int | None) -> None:
        """Note the most RAM that a solver's process held."""
        with self._lock:
            if memory_bytes is not None:
                self._solver_memory_bytes = max(memory_bytes, self._solver_memory_bytes or 0)

    def solver_memory_bytes(self) -> int | None:
        """The most RAM that any solver's process held, None where none ran."""
        with self._lock:
            return self._solver_memory_bytes

    def met(self) -> bool:
        """Whether no schedule with the best one's order is cheaper by more than the gap asked for."""
        with self._lock:
            return self._best is not None and self._closes(self.bound())

    def proven(self) -> bool:
        """Whether nothing that the problem allows can be cheaper, reordering included."""
        with self._lock:
            if self._best is None:
                return False
            return self._closes(self._any_order if self.problem.allowed.reorder else self.bound())

    def _closes(self, bound: Bound) -> bool:
        assert self._best is not None
        gap = max(ROUNDING, self._limits.relative_gap)
        return self._best.cost * (1 - gap) <= bound.value

    def cancelled(self) -> bool:
        """Whether the caller wants the end."""
        return self._cancel.is_set()

    def abandon(self) -> None:
        """Let everybody end: one of them has failed."""
        self._abandoned.set()

    def done(self) -> bool:
        """Whether there is nothing to look for, or nobody to look for it, or no time."""
        over = self.cancelled() or self._abandoned.is_set() or self.left_seconds() <= 0
        return over or self.proven() or self.out_of_patience()

    def out_of_patience(self) -> bool:
        """Whether there is a plan, and neither it nor its bound got better for as long as is waited."""
        patience = self._limits.patience_seconds
        with self._lock:
            waited = time.monotonic() - self._improved
            return patience is not None and self._best is not None and waited > patience

    def elapsed_seconds(self) -> float:
        """Since the call began."""
        return time.monotonic() - self._started

    def left_seconds(self) -> float:
        """Until the wall limit."""
        return self._limits.wall_seconds - self.elapsed_seconds()

    def say(self, message: str) -> None:
        """Report progress, if anyone listens."""
        if self._on_progress is None:
            return
        with self._lock:
            self._on_progress(
                Progress(
                    message=message,
                    seconds=self.elapsed_seconds(),
                    incumbent=self._best.cost if self._best else None,
                    bound=self.bound().value,
                )
            )
