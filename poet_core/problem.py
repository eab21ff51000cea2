"""Graph + device + budget -> Problem: the one assembly that the command line, the runtime and the
service share, so that the same request means the same problem everywhere.

What a device fixes (alignment, reserved bytes, overlap, flash capacity) comes from its profile;
what a user chooses (RAM, time, energy, flash writes) from the call.
"""

from __future__ import annotations

import math

from poet_core.costs import Costs, costs_on
from poet_core.device import DeviceProfile
from poet_core.errors import DeviceError, UsageError
from poet_core.graph import TrainingGraph
from poet_core.plan import Allowed, Budget, Objective, Problem
from poet_core.text import printable

# The judge adds seconds in the order of the plan, the base is added in document order: a plan that
# takes exactly the allowed time must not fail by a rounding of that sum.
_ROUNDING = 1e-9


def make_problem(
    graph: TrainingGraph,
    device: DeviceProfile,
    *,
    ram_bytes: int,
    time_ratio: float | None = None,
    step_seconds: float | None = None,
    energy_ratio: float | None = None,
    energy_joules: float | None = None,
    flash_bytes: int | None = None,
    flash_write_bytes: int | None = None,
    objective: Objective = Objective.ENERGY,
    allowed: Allowed | None = None,
) -> Problem:
    """The problem of running `graph` on `device` within `ram_bytes` of RAM.

    `time_ratio` and `energy_ratio` are multiples of keep-everything's compute seconds and joules,
    `step_seconds` and `energy_joules` absolute limits: at most one of each pair. `flash_bytes`
    narrows the device's capacity. More RAM than the device has is allowed here, for what-if questions
    (PlanRequest refuses it). Raises UsageError where the request contradicts itself, DeviceError
    (`costs_not_finite`) where the profile makes a cost overflow.
    """
    _check_ram(ram_bytes)
    costs = costs_on(graph, device)
    _check_costs(costs, device)
    seconds = _limit("time", "step_seconds", time_ratio, step_seconds, costs.base_seconds)
    joules = _limit("energy", "energy_joules", energy_ratio, energy_joules, costs.base_joules)
    capacities = [size for size in (device.flash_bytes, flash_bytes) if size is not None]
    budget = Budget(
        ram_bytes=ram_bytes,
        reserved_bytes=device.reserved_bytes,
        alignment_bytes=device.alignment_bytes,
        overlap=device.overlap,
        flash_bytes=min(capacities) if capacities else None,
        flash_write_bytes=flash_write_bytes,
        step_seconds=seconds,
        energy_joules=joules,
    )
    return Problem(
        graph=graph,
        costs=costs,
        budget=budget,
        objective=objective,
        allowed=allowed or Allowed(),
        device_name=device.name,
    )


def _check_ram(ram_bytes: int) -> None:
    if ram_bytes < 1:
        raise UsageError(
            f"Expected a RAM budget of at least 1 byte, got {ram_bytes}.",
            code="ram_invalid",
            hint="Give the bytes that tensors may take, e.g. 512MiB.",
        )


def _limit(
    what: str, name: str, ratio: float | None, absolute: float | None, base: float
) -> float | None:
    """The absolute limit of a budget given as a ratio of `base`, absolutely, or not at all."""
    if ratio is None:
        if absolute is not None and not (math.isfinite(absolute) and absolute >= 0):
            raise UsageError(
                f"Expected {name} to be a finite number of at least 0, got {absolute}.",
                code=f"{what}_invalid",
            )
        return absolute
    if absolute is not None:
        raise UsageError(
            f"Expected one of {what}_ratio and {name}, got both.",
            code=f"{what}_limit_twice",
            hint="Leave one of them out.",
        )
    if not math.isfinite(ratio) or ratio < 1:
        raise UsageError(
            f"Expected a {what} ratio of at least 1, got {ratio}.",
            code="ratio_invalid",
            hint=f"1.2 means 1.2 times the {what} of keep-everything.",
        )
    return ratio * base * (1 + _ROUNDING)


def _check_costs(costs: Costs, device: DeviceProfile) -> None:
    totals = (
        costs.base_joules,
        sum(costs.page_in_seconds) + sum(costs.page_in_joules),
        sum(costs.page_out_seconds) + sum(costs.page_out_joules),
    )
    if not all(math.isfinite(total) and total < 1e300 for total in totals):
        raise DeviceError(
            f"The figures of device {printable(device.name, 40)!r} make a cost of this graph overflow.",
            code="costs_not_finite",
            hint="Check the rates of the profile: they are per second, in bytes and FLOPs.",
        )
