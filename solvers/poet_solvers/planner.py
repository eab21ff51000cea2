"""`plan`: a problem goes in, a judged plan comes out, or an error that says what is proven.

    floor, base time, base energy   -> BudgetError, with the proof
    keep-everything fits            -> that plan, without a solver
    evict, greedy                   -> what is answered where the solver finds nothing better
    first-run relaxation, LP        -> the end, where its bound is what the best so far costs
    local search from greedy        -> better ones; without its native part the status says so
    judged MILP (grouped if large)  -> its answer, decoded, expanded, judged, polished
    first-run relaxation, MILP      -> how far from the cheapest the answer can be

Invariant: every Plan that leaves here was accepted by the judge for the very problem asked; its
bound is proven for what it says, and its status says what the solver claims and about what.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from poet_core.baseline import keep_everything
from poet_core.bounds import check_above_floor
from poet_core.errors import BudgetError, PlanError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Bound, HoldsFor, Objective, Plan, PlannedBy, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_core.units import format_joules, format_seconds
from poet_solvers.backends import BackendName, SolveLimits
from poet_solvers.bounds.proof import Proof
from poet_solvers.evict import best_evict_schedule
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.judged_search import Outcome, no_plan_error, search
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.polish import polish
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from poet_solvers.values import value_table

# Base costs are sums of the same floats as the judge's, perhaps in another order.
_ROUNDING = 1e-9
# The share of the time that the search leaves for proving how good its answer is.
_PROOF_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a planner has so far: a sentence, and joules or seconds by the problem's objective."""

    message: str
    seconds: float
    incumbent: float | None = None
    bound: float | None = None


def plan(
    problem: Problem,
    *,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    write_lp: Path | None = None,
) -> Plan:
    """A plan for `problem`, as cheap as the solver finds within `limits` (POET, section 4).

    `cancel` ends the solve; the best plan so far is returned where there is one. `write_lp` keeps
    the model that the solver saw. Raises BudgetError where no plan can exist (always with the
    proof), PlanningError `none_in_this_model` or `not_found_in_time` where none was found.
    """
    limits = limits or SolveLimits()
    proof = Proof(problem, backend, limits, cancel)
    desk = _Desk(problem, limits, on_progress, cancel, proof)
    check_above_floor(problem.graph, problem.budget, paging=problem.allowed.page)
    _check_base_costs(problem)
    kept = _judged(problem, keep_everything(problem.graph))
    if kept is not None:
        return desk.keep_everything_plan(keep_everything(problem.graph), kept)
    desk.say("Keep-everything does not fit; looking for a schedule that does.")
    desk.offer("evict", best_evict_schedule(problem, value_table(problem.graph, problem.budget)))
    start = best_greedy_sequence(problem, stop=desk.half_time)
    if start is not None:
        desk.offer("greedy", sequence_schedule(step_model(problem), start))
    if desk.best is not None:
        proof.by_lp(desk.best[0], desk.limits_left().wall_seconds)
        if proof.ends_search(*desk.best[:2]):
            return desk.met_plan()
    desk.say(native_missing() or "Searching from there.")
    found = search_schedule(problem, limits=desk.search_limits(), start=start, stop=desk.half_time)
    desk.offer("search", found)
    if desk.best is not None and proof.meets(*desk.best[:2]):
        return desk.met_plan()
    outcome = search(
        problem,
        backend=backend,
        limits=desk.limits_left(kept_back=_PROOF_SHARE),
        cancel=cancel,
        write_lp=write_lp,
        say=desk.say,
    )
    desk.offer(outcome.formulation, outcome.schedule)
    if desk.best is None:
        raise no_plan_error(problem, outcome)
    proof.take(_search_bound(outcome))
    proof.by_milp(*desk.best[:2], desk.limits_left().wall_seconds)
    return desk.best_plan(outcome)


def _search_bound(outcome: Outcome) -> Bound | None:
    if outcome.bound is None:
        return None
    return Bound(value=outcome.bound, holds_for=HoldsFor.GIVEN_ORDER, by=outcome.bound_by)


def _check_base_costs(problem: Problem) -> None:
    """Every op runs at least once: what that takes is a proof when it is over a limit."""
    budget, costs = problem.budget, problem.costs
    for limit, base, code, name, shown in (
        (budget.step_seconds, costs.base_seconds, "time_below_base", "time", format_seconds),
        (budget.energy_joules, costs.base_joules, "energy_below_base", "energy", format_joules),
    ):
        if limit is not None and base > limit * (1 + _ROUNDING):
            raise BudgetError(
                f"The step's {name} limit of {shown(limit)} is below the {shown(base)} that "
                "running every op once takes.",
                code=code,
                hint=f"Allow at least {shown(base)}, or use a smaller batch.",
                details={"limit": limit, "base": base},
            )


def _judged(problem: Problem, schedule: Schedule) -> Judgement | None:
    try:
        return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    except PlanError:
        return None


class _Desk:
    """Keeps the best judged schedule, the clock and the progress reports of one call."""

    def __init__(
        self,
        problem: Problem,
        limits: SolveLimits,
        on_progress: Callable[[Progress], None] | None,
        cancel: threading.Event | None,
        proof: Proof,
    ) -> None:
        self._proof = proof
        self._problem, self._limits, self._on_progress = problem, limits, on_progress
        self._cancel = cancel
        self._started = time.monotonic()
        self.best: tuple[float, Schedule, Judgement] | None = None
        self._best_by = ""

    def say(self, message: str, bound: float | None = None) -> None:
        """Report progress, if anyone listens."""
        if self._on_progress is not None:
            cost = self.best[0] if self.best else None
            self._on_progress(
                Progress(message=message, seconds=self._elapsed(), incumbent=cost, bound=bound)
            )

    def offer(self, by: str, schedule: Schedule | None) -> None:
        """Take a schedule, polished, if the judge accepts it and none before it is cheaper."""
        if schedule is None or _judged(self._problem, schedule) is None:
            return
        better = polish(self._problem, schedule, cancel=self._cancel)
        judgement = _judged(self._problem, better)
        assert judgement is not None  # polish keeps what the judge accepts
        energy = self._problem.objective is Objective.ENERGY
        cost = judgement.energy_joules if energy else judgement.step_seconds
        if self.best is not None and cost > self.best[0] * (1 + _ROUNDING):
            return
        self.best, self._best_by = (cost, better, judgement), by

    def half_time(self) -> bool:
        """Whether half the time is gone, or nobody waits any more: the solver wants the rest."""
        cancelled = self._cancel is not None and self._cancel.is_set()
        return cancelled or self._elapsed() > 0.5 * self._limits.wall_seconds

    def search_limits(self) -> SearchLimits:
        """Moves by the size of the graph, so that a small one gives the same answer every time."""
        limits = self._limits
        return SearchLimits(
            moves=_MOVES_PER_OP * len(self._problem.graph.ops),
            wall_seconds=_SEARCH_SHARE * limits.wall_seconds,
            seed=limits.seed,
        )

    def limits_left(self, *, kept_back: float = 0.0) -> SolveLimits:
        """The limits less the time that is gone, with a little left to solve in; `kept_back` is a
        share of all the time."""
        limits = self._limits
        left = (1 - kept_back) * limits.wall_seconds - self._elapsed()
        return SolveLimits(
            wall_seconds=max(0.1, left),
            relative_gap=limits.relative_gap,
            threads=limits.threads,
            memory_bytes=limits.memory_bytes,
            seed=limits.seed,
        )

    def keep_everything_plan(self, schedule: Schedule, judgement: Judgement) -> Plan:
        """Nothing can cost less than every op once and nothing else."""
        return self._plan(
            schedule,
            judgement,
            formulation="keep-everything",
            solver="none",
            status="Keep-everything fits in the RAM budget, and no plan can cost less.",
        )

    def met_plan(self) -> Plan:
        """The best schedule, where the bound leaves nothing to look for."""
        assert self.best is not None
        _, schedule, judgement = self.best
        return self._plan(
            schedule,
            judgement,
            formulation=self._best_by,
            solver="highs"
            if self._proof.bound_for(schedule).holds_for is HoldsFor.GIVEN_ORDER
            else "none",
            status=f"The {self._best_by} schedule costs what {self._bound_words(schedule)}.",
        )

    def best_plan(self, outcome: Outcome) -> Plan:
        """The best schedule, with what is proven about it."""
        assert self.best is not None
        cost, schedule, judgement = self.best
        status = outcome.status
        if self._best_by != outcome.formulation:
            status = f"The {self._best_by} schedule is answered, {_NONE_CHEAPER} {status}"
            missing = native_missing()
            status += f" {missing}" if missing else ""
        if self._proof.meets(cost, schedule):
            status = f"{status} It costs what {self._bound_words(schedule)}."
        return self._plan(
            schedule,
            judgement,
            formulation=self._best_by,
            solver=outcome.solver,
            status=status,
        )

    def _bound_words(self, schedule: Schedule) -> str:
        bound = self._proof.bound_for(schedule)
        given = bound.holds_for is HoldsFor.GIVEN_ORDER
        return f"every schedule{' in the given order' if given else ''} costs at least ({bound.by})"

    def _plan(
        self,
        schedule: Schedule,
        judgement: Judgement,
        *,
        formulation: str,
        solver: str,
        status: str,
    ) -> Plan:
        problem, bound = self._problem, self._proof.bound_for(schedule)
        energy = problem.objective is Objective.ENERGY
        cost = judgement.energy_joules if energy else judgement.step_seconds
        return Plan(
            graph_sha256=graph_sha256(problem.graph),
            device_name=problem.device_name,
            budget=problem.budget,
            objective=problem.objective,
            allowed=problem.allowed,
            costs=problem.costs,
            schedule=schedule,
            claims=judgement.claims,
            planned_by=PlannedBy(
                formulation=formulation,
                solver=solver,
                status=status,
                wall_seconds=self._elapsed(),
            ),
            # A bound from floats may stand a rounding above the optimum that it bounds.
            bound=replace(bound, value=min(bound.value, cost)),
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


# A second or two at some hundred ops, then the solver has its turn.
_MOVES_PER_OP = 10_000

_SEARCH_SHARE = 0.4

_NONE_CHEAPER = "the solver having found none cheaper:"
