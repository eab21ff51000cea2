"""Why an entry does not fit, and what would help: each a sentence that can be acted on.

    at the floor or at the peak  which storages are in RAM there
    the least budget             that a plan is known for: a few tries from the floor up
    page, rematerialize          where the entry forbids them and a plan with them is known
    the limit                    that the best plan found keeps
    another device               that has the RAM, by a plan judged for it

Invariant: what is said to work was judged; what is only a lower bound is called one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace

from poet_cli.check.asking import Enough, Planner
from poet_cli.check.deciding import Case
from poet_cli.check.entries import Entry
from poet_cli.check.report import Held, Row, Verdict
from poet_core.baseline import keep_everything
from poet_core.device import DeviceProfile
from poet_core.errors import PoetError
from poet_core.plan import Objective, Plan, Schedule
from poet_core.units import LARGEST_INTEGER, format_bytes

# Of what lies between the floor and keep-everything: budgets that are tried, the tightest first.
_TRIED_SHARES = (0.0, 1 / 64, 1 / 16, 1 / 4)
_TRY_SECONDS, _MOST_SECONDS = 2.0, 6.0
_MOST_HELD = 8
_MOST_DEVICES = 3
_KIB, _MIB = 1 << 10, 1 << 20


def advised(case: Case, row: Row, plan: Plan | None, planner: Planner) -> Row:
    """The row with what is in RAM at its peak and, unless it fits, with what would help."""
    if row.verdict is Verdict.FITS:
        schedule = keep_everything(case.graph) if plan is None else plan.schedule
        return replace(row, at_peak=_at_peak(case, schedule))
    if row.verdict is Verdict.UNDECIDED and planner.server is not None and plan is None:
        return row  # the service gave no answer, so nothing is known to be wrong with the model
    # A plan is looked for here, whoever was asked before: this is a courtesy, and bounded.
    asked = replace(planner, server=None)
    least = _least(case, row, asked)
    advice = [
        *_budget_advice(case, row, least),
        *_permission_advice(case, asked),
        *_limit_advice(case, plan),
        *_device_advice(case, least),
    ]
    held = _at_floor(case) if row.code == "ram_below_floor" else ()
    if not held and plan is not None:
        held = _at_peak(case, plan.schedule)
    return replace(
        row,
        at_peak=held,
        least_bytes=None if least is None else least[0],
        advice=tuple(advice),
    )


def pasteable(size_bytes: int) -> str:
    """At least `size_bytes`, as a configuration takes it: 334MiB, 12KiB, 700B."""
    for unit, name in ((_MIB, "MiB"), (_KIB, "KiB")):
        if size_bytes >= 16 * unit:
            return f"{-(-size_bytes // unit)}{name}"
    return f"{size_bytes}B"


# -- the least budget ----------------------------------------------------------------------------


def _least(case: Case, row: Row, planner: Planner) -> tuple[int, Schedule] | None:
    """The peak of the tightest plan that some tries found within all other limits, and the plan."""
    if row.code in {"time_below_base", "energy_below_base"}:
        return None  # no RAM helps
    ends = time.monotonic() + min(_MOST_SECONDS, 2 * case.entry.planner_seconds)
    for ram_bytes in _tried(case):
        left = ends - time.monotonic()
        if left <= 0:
            break
        schedule = _found(case, ram_bytes, planner, min(left, _TRY_SECONDS))
        if schedule is not None:
            return case.freely_judged(schedule).peak_bytes, schedule
    kept = keep_everything(case.graph)
    if case.within(LARGEST_INTEGER).judged(kept) is None:
        return None
    return case.keep.peak_bytes, kept


def _tried(case: Case) -> Iterator[int]:
    floor, peak = case.floor.floor_bytes, case.keep.peak_bytes
    least = max(floor, case.entry.ram_bytes + 1)
    for share in _TRIED_SHARES:
        ram_bytes = least + int((peak - least) * share)
        if ram_bytes < peak:
            yield ram_bytes


def _found(case: Case, ram_bytes: int, planner: Planner, seconds: float) -> Schedule | None:
    """A schedule within `ram_bytes` and every limit of the entry."""
    wide = case.within(ram_bytes)
    request = replace(wide.free_request, wall_seconds=max(0.1, seconds))
    try:
        plan = planner.plan(request, Enough(case.cost_limit, more_seconds=0.0))
    except PoetError:  # not found in so short a time, or proven that there is none
        return None
    return plan.schedule if wide.judged(plan.schedule) is not None else None


# -- sentences -----------------------------------------------------------------------------------


def _ram_key(entry: Entry) -> str:
    """As the configuration would have it, where each device has a budget of its own too."""
    if not entry.ram_by_device:
        return "ram"
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", entry.device)
    return f"ram.{entry.device}" if bare else f'ram."{entry.device}"'


def _budget_advice(case: Case, row: Row, least: tuple[int, Schedule] | None) -> Iterator[str]:
    if least is not None and least[0] > case.entry.ram_bytes:
        has = case.device.ram_bytes
        if least[0] <= has:
            yield (
                f'Set {_ram_key(case.entry)} = "{pasteable(least[0])}": a plan with a peak of '
                f"{format_bytes(least[0])} is known."
            )
        else:
            yield (
                f"The least that a plan is known for is {format_bytes(least[0])}, and the device "
                f"has {format_bytes(has)}."
            )
    elif least is None and row.code == "ram_below_floor":
        yield f"At least {format_bytes(case.floor.floor_bytes)} are needed; that these do is not known."


def _permission_advice(case: Case, planner: Planner) -> Iterator[str]:
    """What the entry forbids and would help."""
    entry = case.entry
    for key, freer_entry in (
        ("page", replace(entry, page=True)),
        ("rematerialize", replace(entry, rematerialize=True)),
    ):
        freer = replace(case, entry=freer_entry)
        if freer_entry == entry or freer.floor.floor_bytes > case.entry.ram_bytes:
            continue
        schedule = _found(freer, case.entry.ram_bytes, planner, _TRY_SECONDS)
        if schedule is not None:
            yield f"Set {key} = true: with it a plan within {format_bytes(case.entry.ram_bytes)} is known."


def _limit_advice(case: Case, plan: Plan | None) -> Iterator[str]:
    if plan is None or case.cost_limit is None or case.judged(plan.schedule) is not None:
        return
    energy = case.request.objective is Objective.ENERGY
    key = "max_energy" if energy else "max_time"
    base = case.problem.costs.base_joules if energy else case.problem.costs.base_seconds
    if base > 0:
        ratio = math.ceil(plan.objective_value / base * 100) / 100
        yield f'Set {key} = "{ratio:g}x": the best plan found keeps it.'


def _device_advice(case: Case, least: tuple[int, Schedule] | None) -> Iterator[str]:
    """Other shipped devices, where no budget that this one has will do."""
    if least is None or least[0] <= case.device.ram_bytes:
        return
    from poet_core.devices import device_names, load_device

    others = sorted(map(load_device, device_names()), key=lambda one: (one.ram_bytes, one.name))
    fitting = [
        f"{other.name} ({format_bytes(other.ram_bytes)})"
        for other in others
        if not other.measured and other.name != case.device.name and _fits_on(case, other, least[1])
    ]
    if fitting:
        yield f"It fits on {', '.join(fitting[:_MOST_DEVICES])}."


def _fits_on(case: Case, device: DeviceProfile, tight: Schedule) -> bool:
    there = replace(case, device=device, entry=replace(case.entry, ram_bytes=device.ram_bytes))
    try:
        return any(
            there.judged(schedule) is not None for schedule in (keep_everything(case.graph), tight)
        )
    except PoetError:  # the profile makes a cost overflow
        return False


# -- what is in RAM ------------------------------------------------------------------------------


def _at_peak(case: Case, schedule: Schedule) -> tuple[Held, ...]:
    from poet_cli.residency import residents

    judgement = case.freely_judged(schedule)
    rows = residents(case.graph, case.problem.budget, schedule, judgement.peak_instruction)
    return tuple(
        Held(name=row.name, role=row.role, size_bytes=row.size_bytes) for row in rows[:_MOST_HELD]
    )


def _at_floor(case: Case) -> tuple[Held, ...]:
    """What the op that sets the floor needs at the same time."""
    budget, graph, floor = case.problem.budget, case.graph, case.floor
    if floor.op_id is None:
        return ()
    op = graph.ops[floor.op_id]
    storages = set(op.touches)
    if not case.entry.page:
        storages |= {storage.id for storage in graph.storages if storage.persistent}
    held = [
        Held(
            name=graph.storages[item].name,
            role=str(graph.storages[item].role),
            size_bytes=budget.rounded(graph.storages[item].size_bytes),
        )
        for item in storages
    ]
    for name, size in (
        ("workspace of the op", budget.rounded(op.workspace_bytes)),
        ("reserved", budget.reserved_bytes),
    ):
        held.append(Held(name=name, role="", size_bytes=size))
    held = [one for one in held if one.size_bytes]
    return tuple(sorted(held, key=lambda one: (-one.size_bytes, one.name))[:_MOST_HELD])
