"""Points of a frontier: which budgets, what each became, and what one point says about another.

    a plan for less RAM is a plan for more       `monotone`: no point costs more than a tighter one
    a bound for more RAM is a bound for less     `monotone`: ... nor is bounded less than a looser one
    less of nothing and more of something        `dominated`: RAM, joules and seconds together

Invariant: nothing here makes a plan; every schedule comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.plan import Bound, HoldsFor, Objective, Plan, Problem, Schedule
from poet_core.simulate import Judgement
from poet_solvers.desk import ROUNDING, first_runs

# Near the floor a little more RAM buys much; the published tables have this budget too.
_NEAR_FLOOR = 1.05


class PointEnding(Enum):
    """What became of a budget. Each member's value is its sentence."""

    PLANNED = "There is a plan, and the judge accepts it."
    IMPOSSIBLE = "No plan can exist within this budget, and that is proven."
    UNDECIDED = "No plan was found; that proves nothing."
    NOT_TRIED = "The frontier ended before this budget had its turn."

    @property
    def sentence(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """One RAM budget. `plan` is there exactly where the ending is PLANNED.

    `error` and `error_code` say why there is none. `from_ram_bytes`: the plan is that of this
    tighter budget, for nothing cheaper was found here. `resumed`: read from a store.
    """

    ram_bytes: int
    ending: PointEnding
    plan: Plan | None = None
    error: str = ""
    error_code: str = ""
    from_ram_bytes: int | None = None
    resumed: bool = False

    @property
    def found_by(self) -> str:
        """Who found the plan."""
        return "" if self.plan is None else self.plan.planned_by.formulation


def with_ram(problem: Problem, ram_bytes: int) -> Problem:
    """The same problem under another RAM budget."""
    return replace(problem, budget=replace(problem.budget, ram_bytes=ram_bytes))


def everything_kept(problem: Problem) -> Judgement:
    """Keep-everything under the problem's reserved bytes and alignment."""
    budget = problem.budget
    return judge_keep_everything(
        problem.graph,
        problem.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    )


def default_budgets(
    problem: Problem, points: int, *, most_bytes: int | None = None
) -> tuple[int, ...]:
    """Budgets from keep-everything's peak (`most_bytes` where that is less) down to the RAM floor:
    evenly spaced, one of them replaced by 5% above the floor. Fewer where they coincide."""
    most = everything_kept(problem).peak_bytes
    most = most if most_bytes is None else min(most, most_bytes)
    floor = ram_floor(problem.graph, problem.budget, paging=problem.allowed.page).floor_bytes
    if points < 2:
        return (most,)
    steps = max(1, points - 2)
    budgets = {floor + (most - floor) * step // steps for step in range(steps + 1)}
    near = int(floor * _NEAR_FLOOR)
    if points > 2 and floor < near < most:
        budgets.add(near)
    return tuple(sorted(budgets, reverse=True))


def bound_for(bound: Bound | None, of: Schedule, schedule: Schedule) -> Bound | None:
    """`bound`, which stood beside `of`, where it speaks of `schedule` as well."""
    if bound is None or bound.holds_for is HoldsFor.ANY_ORDER:
        return bound
    order = first_runs(schedule)
    if bound.holds_for is HoldsFor.GIVEN_ORDER:
        return bound if order == tuple(sorted(order)) else None
    return bound if order == first_runs(of) else None


def monotone(problem: Problem, points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """The points, loosest first, where none costs more than a tighter one or is bounded less than a
    looser one."""
    tight_first = sorted(points, key=lambda point: point.ram_bytes)
    cheaper = _with_cheapest_plans(problem, tight_first)
    return tuple(_with_strongest_bounds(list(reversed(cheaper))))


def _with_cheapest_plans(
    problem: Problem, tight_first: Sequence[FrontierPoint]
) -> list[FrontierPoint]:
    found: list[FrontierPoint] = []
    best: FrontierPoint | None = None
    for point in tight_first:
        kept = point
        if best is not None and best.plan is not None:
            from_ram_bytes = best.from_ram_bytes or best.ram_bytes
            if is_dearer(point.plan, best.plan):
                kept = _adopted(problem, point, best.plan, from_ram_bytes)
            elif point.plan is not None and point.plan.schedule == best.plan.schedule:
                kept = replace(point, from_ram_bytes=from_ram_bytes)
        found.append(kept)
        if kept.plan is not None:
            best = kept
    return found


def is_dearer(plan: Plan | None, other: Plan) -> bool:
    """Whether `other` costs less by more than a rounding; no plan is dearer than any."""
    return plan is None or other.objective_value < plan.objective_value * (1 - ROUNDING)


def _adopted(
    problem: Problem, point: FrontierPoint, plan: Plan, from_ram_bytes: int
) -> FrontierPoint:
    """The point with a tighter one's plan; of the bounds, those for this budget alone count."""
    own = point.plan
    bound = None if own is None else bound_for(own.bound, own.schedule, plan.schedule)
    costs = problem.costs
    base = costs.base_joules if plan.objective is Objective.ENERGY else costs.base_seconds
    every_op = Bound(value=base, holds_for=HoldsFor.ANY_ORDER, by="every op runs at least once")
    status = f"The plan for {from_ram_bytes} bytes of RAM, cheaper than what was found here."
    adopted = replace(
        plan,
        budget=replace(plan.budget, ram_bytes=point.ram_bytes),
        bound=_at_most(bound or every_op, plan.objective_value),
        planned_by=replace(plan.planned_by, status=status),
    )
    return FrontierPoint(
        ram_bytes=point.ram_bytes,
        ending=PointEnding.PLANNED,
        plan=adopted,
        from_ram_bytes=from_ram_bytes,
        resumed=point.resumed,
    )


def _with_strongest_bounds(loose_first: Sequence[FrontierPoint]) -> list[FrontierPoint]:
    found: list[FrontierPoint] = []
    earlier: list[tuple[Bound, Plan, int]] = []
    for point in loose_first:
        plan = point.plan
        if plan is None or plan.bound is None:
            found.append(point)
            continue
        strongest = plan.bound
        for bound, of, ram_bytes in earlier:
            speaks = bound_for(bound, of.schedule, plan.schedule)
            if speaks is not None and speaks.value > strongest.value * (1 + ROUNDING):
                strongest = replace(speaks, by=f"{speaks.by} (with {ram_bytes} bytes of RAM)")
        earlier.append((plan.bound, plan, point.ram_bytes))
        strongest = _at_most(strongest, plan.objective_value)
        found.append(replace(point, plan=replace(plan, bound=strongest)))
    return found


def _at_most(bound: Bound, cost: float) -> Bound:
    """A bound from floats may stand a rounding above the cost of what it bounds."""
    return replace(bound, value=min(bound.value, cost))


def dominated(points: Sequence[FrontierPoint]) -> frozenset[int]:
    """The budgets whose plans another point's plan beats: no more of peak RAM, joules and seconds
    and less of one of them, or the same of all within a tighter budget."""
    plans = [(point.ram_bytes, _figures(point.plan)) for point in points if point.plan is not None]
    return frozenset(
        ram for ram, figures in plans if any(_beats(item, (ram, figures)) for item in plans)
    )


def _figures(plan: Plan) -> tuple[float, float, float]:
    claims = plan.claims
    return claims.peak_bytes, claims.energy_joules, claims.step_seconds


def _beats(
    one: tuple[int, tuple[float, float, float]], other: tuple[int, tuple[float, float, float]]
) -> bool:
    pairs = list(zip(one[1], other[1], strict=True))
    if any(a > b * (1 + ROUNDING) for a, b in pairs):
        return False
    return any(a < b * (1 - ROUNDING) for a, b in pairs) or one[0] < other[0]
