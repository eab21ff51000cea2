"""One entry and its graph -> one row: what is known without a planner, then what a planner finds.

    RAM floor above the budget, every op once above a limit   -> does not fit, proven
    keep-everything within budget and limits                  -> fits
    a judged plan within budget and limits                    -> fits
    a bound above a limit                                     -> does not fit, proven
    the time is up                                            -> undecided

A limit on what the planner minimises is not put into the problem: the cheapest plan is looked for,
and the bound on it is a proof where it is above the limit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from poet_cli.check.asking import Enough, Planner
from poet_cli.check.entries import Entry
from poet_cli.check.proofs import bound_of_all
from poet_cli.check.report import Row, Verdict
from poet_core.baseline import judge_keep_everything, keep_everything
from poet_core.bounds import RamFloor, check_base_costs, ram_floor
from poet_core.errors import BudgetError, PlanError, PlanningError, PoetError, ServiceError
from poet_core.plan import Allowed, Objective, Plan, Problem, Schedule
from poet_core.plan_request import PlanRequest
from poet_core.simulate import Judgement, simulate
from poet_core.units import format_bytes, format_joules, format_seconds

if TYPE_CHECKING:
    import threading

    from poet_core.device import DeviceProfile
    from poet_core.graph import TrainingGraph

_UNLIMITED_BYTES = 2**62
_ROUNDING = 1e-9
"""Limits are sums of floats in one order, what is compared with them in another."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An entry with its graph and its device: everything that a verdict is about."""

    entry: Entry
    graph: TrainingGraph
    device: DeviceProfile

    @cached_property
    def request(self) -> PlanRequest:
        """What is asked, all limits included."""
        entry = self.entry
        time, energy = entry.max_time, entry.max_energy
        return PlanRequest(
            graph=self.graph,
            device=self.device,
            ram_bytes=entry.ram_bytes,
            time_ratio=time.ratio if time else None,
            step_seconds=time.absolute if time else None,
            energy_ratio=energy.ratio if energy else None,
            energy_joules=energy.absolute if energy else None,
            objective=Objective.TIME if time and not energy else Objective.ENERGY,
            allowed=Allowed(page=entry.page, rematerialize=entry.rematerialize),
            wall_seconds=entry.planner_seconds,
        )

    @cached_property
    def problem(self) -> Problem:
        """The same as a problem."""
        return self.request.stated_problem()

    @cached_property
    def floor(self) -> RamFloor:
        """The least RAM of any plan."""
        return ram_floor(self.graph, self.problem.budget, paging=self.entry.page)

    @cached_property
    def keep(self) -> Judgement:
        """Keep-everything."""
        budget = self.problem.budget
        return judge_keep_everything(
            self.graph,
            self.problem.costs,
            reserved_bytes=budget.reserved_bytes,
            alignment_bytes=budget.alignment_bytes,
        )

    @property
    def cost_limit(self) -> float | None:
        """The limit on what is minimised, in joules or seconds."""
        budget = self.problem.budget
        energy = self.request.objective is Objective.ENERGY
        return budget.energy_joules if energy else budget.step_seconds

    @property
    def free_request(self) -> PlanRequest:
        """The request without the limit on what is minimised."""
        if self.request.objective is Objective.ENERGY:
            return replace(self.request, energy_ratio=None, energy_joules=None)
        return replace(self.request, time_ratio=None, step_seconds=None)

    def judged(self, schedule: Schedule) -> Judgement | None:
        """What the judge says of a schedule within budget and limits; None where it refuses it."""
        problem = self.problem
        try:
            return simulate(self.graph, problem.costs, problem.budget, schedule, problem.allowed)
        except PlanError:
            return None

    def freely_judged(self, schedule: Schedule) -> Judgement:
        """The figures of a schedule that was judged before, whatever it needs and takes."""
        budget = replace(
            self.problem.budget, ram_bytes=_UNLIMITED_BYTES, step_seconds=None, energy_joules=None
        )
        return simulate(self.graph, self.problem.costs, budget, schedule)

    def within(self, ram_bytes: int) -> Case:
        """The same with another budget."""
        return replace(self, entry=replace(self.entry, ram_bytes=ram_bytes))

    def row(self, verdict: Verdict, reason: str, **others: Any) -> Row:
        """A row with what is known of every case."""
        return Row(
            entry=self.entry,
            verdict=verdict,
            reason=reason,
            floor_bytes=self.floor.floor_bytes,
            floor_set_by=self.floor.set_by,
            keep_everything_bytes=self.keep.peak_bytes,
            base_seconds=self.keep.step_seconds,
            base_joules=self.keep.energy_joules,
            **others,
        )

    def fitting(self, judgement: Judgement, gap: float | None) -> Row:
        """The row of a judged schedule within every limit."""
        return self.row(
            Verdict.FITS,
            f"A plan with a peak of {format_bytes(judgement.peak_bytes)} was judged to fit.",
            peak_bytes=judgement.peak_bytes,
            seconds=judgement.step_seconds,
            joules=judgement.energy_joules,
            flash_written_bytes=judgement.flash_bytes_written,
            gap=gap,
            least_bytes=judgement.peak_bytes,
        )


def decide(case: Case, planner: Planner) -> tuple[Row, Plan | None]:
    """The row, and the plan that the planner found where it asked one (within budget, but not always
    within the limit on what is minimised). Raises PoetError where the problem makes no sense."""
    entry = case.entry
    if case.floor.floor_bytes > entry.ram_bytes:
        over = case.floor.floor_bytes - entry.ram_bytes
        reason = (
            f"Every plan needs at least {format_bytes(case.floor.floor_bytes)}, {format_bytes(over)} "
            f"more than the budget of {format_bytes(entry.ram_bytes)}."
        )
        return case.row(Verdict.DOES_NOT_FIT, reason, code="ram_below_floor"), None
    try:
        check_base_costs(case.problem)
    except BudgetError as error:
        return case.row(Verdict.DOES_NOT_FIT, error.message, code=error.code, hint=error.hint), None
    kept = case.judged(keep_everything(case.graph))
    if kept is not None:
        return case.fitting(kept, gap=0.0), None
    return _planned(case, planner)


def _planned(case: Case, planner: Planner) -> tuple[Row, Plan | None]:
    try:
        plan = planner.plan(case.free_request, Enough(case.cost_limit))
    except BudgetError as error:
        row = case.row(Verdict.DOES_NOT_FIT, error.message, code=error.code, hint=error.hint)
        return row, None
    except (PlanningError, ServiceError, PlanError) as error:  # a service's plan may be refused
        hint = _more_time(case.entry) if isinstance(error, PlanningError) else error.hint
        return case.row(Verdict.UNDECIDED, error.message, code=error.code, hint=hint), None
    kept = case.judged(plan.schedule)
    if kept is not None:
        return case.fitting(kept, gap=plan.gap), plan
    return _above_limit(case, plan, planner.cancel), plan


def _above_limit(case: Case, plan: Plan, cancel: threading.Event) -> Row:
    """The best plan found costs more than is allowed: is that proven of every plan?"""
    limit = case.cost_limit
    assert limit is not None  # everything else is in the problem that was planned
    what, shown = _words(case)
    figures: dict[str, Any] = {
        "peak_bytes": plan.claims.peak_bytes,
        "seconds": plan.claims.step_seconds,
        "joules": plan.claims.energy_joules,
        "flash_written_bytes": plan.claims.flash_bytes_written,
        "gap": plan.gap,
    }
    bound = bound_of_all(case.free_request.stated_problem(), plan, cancel)
    if bound is not None and bound.value > limit * (1 + _ROUNDING):
        reason = (
            f"Every plan within {format_bytes(case.entry.ram_bytes)} takes at least "
            f"{shown(bound.value)}, and the limit on {what} is {shown(limit)}."
        )
        return case.row(Verdict.DOES_NOT_FIT, reason, code="limit_below_bound", **figures)
    reason = (
        f"The best plan found takes {shown(plan.objective_value)}, and the limit on {what} is "
        f"{shown(limit)}; that no plan takes less is not proven."
    )
    hint = _more_time(case.entry)
    return case.row(Verdict.UNDECIDED, reason, code="not_found_in_time", hint=hint, **figures)


def _words(case: Case) -> tuple[str, Any]:
    if case.request.objective is Objective.ENERGY:
        return "energy", format_joules
    return "time", format_seconds


def _more_time(entry: Entry) -> str:
    seconds = max(30.0, 3 * entry.planner_seconds)
    return f"Give the planner longer (seconds = {seconds:g}), or more RAM."


def refused(entry: Entry, error: PoetError) -> Row:
    """The row of an entry whose problem makes no sense."""
    return Row(
        entry=entry,
        verdict=Verdict.FAILED,
        reason=error.message,
        code=error.code,
        hint=error.hint,
    )
