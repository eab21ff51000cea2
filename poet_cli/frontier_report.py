"""A frontier as a table and as JSON. Every figure is the judge's."""

from __future__ import annotations

from typing import Any

import click

from poet_cli.output import print_table, safe
from poet_core.plan import Objective, Plan
from poet_core.units import format_bytes, format_joules, format_seconds
from poet_solvers.frontier import Frontier
from poet_solvers.frontier_points import FrontierPoint, PointEnding


def percent(ratio: float) -> str:
    """A share of one as a signed percentage of three significant digits."""
    return f"{0.0 if abs(ratio) < 1e-12 else 100 * ratio:+.3g}%"


def print_frontier(found: Frontier) -> None:
    """The table, and a line below it."""
    beaten, keep = found.dominated, max(1, found.keep.peak_bytes)
    rows = []
    for point in found.points:
        cells = [format_bytes(point.ram_bytes), f"{point.ram_bytes / keep:.1%}"]
        if point.plan is None:
            cells += ["", "", "", ""]
        else:
            gap = point.plan.gap
            cells += [
                percent(energy_overhead(found, point.plan)),
                percent(time_overhead(found, point.plan)),
                "" if gap is None else f"{_small(gap)}%{_order_mark(point.plan)}",
                point.found_by,
            ]
        rows.append((*cells, _note(point, point.ram_bytes in beaten)))
    print_table(
        ("RAM", "of all kept", "energy", "time", "gap", "found by", ""),
        rows,
        right=("RAM", "of all kept", "energy", "time", "gap"),
    )
    if any(point.plan is not None and _order_mark(point.plan) for point in found.points):
        click.echo("* for the order of that plan's first runs")
    click.echo(
        f"everything kept: {format_bytes(found.keep.peak_bytes)}; floor: "
        f"{format_bytes(found.floor.floor_bytes)}, set by {safe(found.floor.set_by)}; "
        f"{found.wall_seconds:.1f} s"
    )


def progress_line(done: int, budgets: int, point: FrontierPoint | None = None) -> str:
    """How many budgets are done, and what the newest one showed."""
    text = f"{done} of {budgets} budgets"
    if point is None:
        return text
    newest = f"{text}; {format_bytes(point.ram_bytes)}: "
    if point.plan is None:
        return newest + (_note(point, False) or "no plan")
    amount = point.plan.objective_value
    shown = format_joules if point.plan.objective is Objective.ENERGY else format_seconds
    gap = "" if point.plan.gap is None else f", gap {_small(point.plan.gap)}%"
    return f"{newest}best {shown(amount)}{gap}"


def _small(gap: float) -> str:
    """In percent; what a sum of floats may be off by is nothing."""
    return "0" if gap < 1e-9 else f"{100 * gap:.2g}"


def _order_mark(plan: Plan) -> str:
    return "" if plan.bound is None or plan.bound.holds_for == "any_order" else "*"


def _note(point: FrontierPoint, beaten: bool) -> str:
    notes = []
    if point.ending is PointEnding.IMPOSSIBLE:
        notes.append("impossible, proven")
    elif point.ending is PointEnding.UNDECIDED:
        notes.append(f"no plan found ({point.error_code})")
    elif point.ending is PointEnding.NOT_TRIED:
        notes.append("not tried")
    if point.from_ram_bytes is not None:
        notes.append(f"the plan for {format_bytes(point.from_ram_bytes)}")
    if beaten:
        notes.append("beaten")
    if point.resumed:
        notes.append("from the store")
    return ", ".join(notes)


def frontier_document(found: Frontier) -> dict[str, Any]:
    """The frontier as a JSON value."""
    beaten = found.dominated
    return {
        "objective": str(found.problem.objective),
        "keep_everything_bytes": found.keep.peak_bytes,
        "keep_everything_seconds": found.keep.step_seconds,
        "keep_everything_joules": found.keep.energy_joules,
        "floor_bytes": found.floor.floor_bytes,
        "floor_set_by": found.floor.set_by,
        "cancelled": found.cancelled,
        "warnings": list(found.warnings),
        "wall_seconds": found.wall_seconds,
        "points": [_point(found, point, point.ram_bytes in beaten) for point in found.points],
    }


def _point(found: Frontier, point: FrontierPoint, beaten: bool) -> dict[str, Any]:
    plan = point.plan
    document: dict[str, Any] = {
        "ram_bytes": point.ram_bytes,
        "ending": point.ending.name.lower(),
        "resumed": point.resumed,
    }
    if plan is None:
        return document | {"error": point.error, "code": point.error_code}
    extra = plan.objective_value - base_of(found, plan.objective)
    return document | {
        "peak_bytes": plan.claims.peak_bytes,
        "energy_joules": plan.claims.energy_joules,
        "energy_overhead": energy_overhead(found, plan),
        "step_seconds": plan.claims.step_seconds,
        "time_overhead": time_overhead(found, plan),
        "bound": None if plan.bound is None else plan.bound.value,
        "bound_holds_for": None if plan.bound is None else str(plan.bound.holds_for),
        "bound_by": None if plan.bound is None else plan.bound.by,
        "gap": plan.gap,
        "overhead_gap": None
        if plan.bound is None or extra <= 0
        else min(1.0, max(0.0, (plan.objective_value - plan.bound.value) / extra)),
        "found_by": point.found_by,
        "dominated": beaten,
        "from_ram_bytes": point.from_ram_bytes,
    }


def base_of(found: Frontier, objective: Objective) -> float:
    """Joules or seconds of keep-everything."""
    keep = found.keep
    return keep.energy_joules if objective is Objective.ENERGY else keep.step_seconds


def over(value: float, base: float) -> float:
    """(value - base) / base; 0 where the base is 0."""
    return value / base - 1 if base > 0 else 0.0


def energy_overhead(found: Frontier, plan: Plan) -> float:
    """What a plan takes on top of keep-everything, as a share of it."""
    return over(plan.claims.energy_joules, found.keep.energy_joules)


def time_overhead(found: Frontier, plan: Plan) -> float:
    """The same in time."""
    return over(plan.claims.step_seconds, found.keep.step_seconds)
