"""What is measured in POET's experiments: series, their points, and what a method is asked at one.

    network   vgg16-32-b1 ...                      a model, its input size, its batch
    scope     activations, sgd, adam, published    what counts as memory
    device    raspberry-pi-4b ...                  what work and transfers cost
        -> series: one graph with one device's costs, and all of its RAM budgets
           -> point: one of these budgets

Invariant: a point says everything that its answer depends on except the planners' sources, so equal
points have equal questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from poet_core.device import DeviceProfile
from poet_core.plan import Plan, Problem, Schedule
from poet_solvers.published_graph import PublishedGraph


class Scope(StrEnum):
    """What counts as memory."""

    ACTIVATIONS = "activations"  # as in the paper: no parameter, gradient of one, optimizer state
    SGD = "sgd"  # the whole step with SGD with momentum: everything counts
    ADAM = "adam"  # the whole step with Adam: everything counts
    PUBLISHED = "published"  # POET's own list of layers, with the costs that it carries


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One graph on one device. `network` names the traced variant (`bert-base-128-b1`; with `-split`:
    its large ops in parts) or POET's list of layers (`poet/vgg16-a72`)."""

    network: str
    scope: Scope
    device: str

    @property
    def title(self) -> str:
        return f"{self.network}, {self.scope}, {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A RAM budget of a series. `label`: `60` (percent of keep-everything's peak), `floor`,
    `floor+2%` or `device` (the RAM that the device has)."""

    series: Series
    label: str
    ram_bytes: int


class Outcome(StrEnum):
    """What became of a method at a point."""

    PLANNED = "planned"  # a plan that the judge accepts
    IMPOSSIBLE = "impossible"  # no plan can exist for what the method may do: proven
    NOT_FOUND = "not found"  # no plan was found, which proves nothing
    NOT_APPLICABLE = "not applicable"  # the method cannot express the problem
    REFUSED = "refused"  # the judge refuses the plan: a fault of the method
    FAILED = "failed"  # the method ended with an error of its own: a fault, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A method at a point. Figures are the judge's; all None where there is no plan.

    `blocking_seconds`: the same plan's where no transfer runs beside compute. `bound_joules`,
    or `bound_seconds` of a plan for time: proven by the planner for schedules of `bound_holds_for`. `given_seconds`: what the planner might take,
    `planner_seconds` what it took. `found_by`: which part of it found the plan. `said`: why there is
    no plan.
    """

    series: Series
    label: str
    ram_bytes: int
    method: str
    outcome: Outcome
    given_seconds: float
    planner_seconds: float
    energy_joules: float | None = None
    step_seconds: float | None = None
    blocking_seconds: float | None = None
    peak_bytes: int | None = None
    flash_bytes_written: int | None = None
    flash_peak_bytes: int | None = None
    recomputed_ops: int | None = None
    transfers: int | None = None
    bound_joules: float | None = None
    bound_seconds: float | None = None
    bound_holds_for: str | None = None
    found_by: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is true of a series whatever the method. `keep_*`: keep-everything without a budget.

    `split_*`: the same step with every op in the smallest parts whose bits stay the same; None for
    POET's lists. `floor_op`: the kind of the op that sets the floor, and its module or name.
    """

    series: Series
    ops: int
    storages: int
    device_ram_bytes: int | None
    keep_bytes: int
    keep_seconds: float
    keep_joules: float
    floor_bytes: int
    floor_set_by: str
    floor_op: str
    bytes_by_role: dict[str, int]
    split_ops: int | None = None
    split_floor_bytes: int | None = None
    split_floor_set_by: str | None = None
    split_floor_op: str | None = None
    split_keep_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointContext:
    """What a method may know beside the problem.

    `budgets_bytes`: every budget of the series, tightest first: the order in which a method gets them.
    `device`: the profile; None for POET's own lists. `published`: POET's own graph where there is one.
    `graph_sha256`: of the problem's graph, for a Plan (it takes long to compute).
    `shared`: empty when the series begins, and then whatever methods put there under their own names:
    what does not depend on the budget is computed once. One for each group of methods.
    """

    point: Point
    budgets_bytes: tuple[int, ...]
    device: DeviceProfile | None
    published: PublishedGraph | None
    graph_sha256: str
    shared: dict[str, Any] = field(default_factory=dict)


Answer = Plan | Schedule | None


def _everywhere(_series: Series) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to get a plan.

    `sources`: files and globs, from the repository's root, whose digest is the method's version.
    `run(problem, seconds, context)`: a plan or schedule within about `seconds`, None where none was
    found. A BudgetError says that none can exist, a PlanningError that none was found (its code
    `not_applicable`: that the method cannot express the problem). The runner judges what comes back
    with the problem's own graph, costs, budget and `allowed`; a refused plan is recorded as a fault.
    Methods of a `group` take turns at each budget, in the order in which they are listed, and have
    one `shared`; without one a method is for itself. `applies`: on which series it is asked at all.
    """

    name: str
    sources: tuple[str, ...]
    run: Callable[[Problem, float, PointContext], Answer]
    group: str = ""
    applies: Callable[[Series], bool] = _everywhere


# -- series and budgets -----------------------------------------------------------------------

HEADLINE_DEVICE = "raspberry-pi-4b"
"""Where acceptance looks: all budgets, and all of the planner's seconds."""

DEVICES = (
    HEADLINE_DEVICE,
    "jetson-tx2",
    "raspberry-pi-4b-uncached",
    "nrf52840",
    "mkr1000",
)

FLOOR, DEVICE = "floor", "device"

_FULL = ("100", "80", "60", "40", "30", "20", "10", "floor+2%", FLOOR, DEVICE)
_ELSEWHERE = ("60", "30", "20", "floor+2%", DEVICE)


def labels_of(series: Series) -> tuple[str, ...]:
    """The budgets asked for; shares below the floor fall away, for nothing can be planned there."""
    if series.scope is Scope.PUBLISHED:
        return tuple(label for label in _FULL if label != DEVICE)
    return _FULL if series.device == HEADLINE_DEVICE else _ELSEWHERE


def ram_bytes_of(label: str, *, keep_bytes: int, floor_bytes: int, device_bytes: int) -> int | None:
    """A label in bytes. None where it is a share of keep-everything below the floor."""
    if label == DEVICE:
        return device_bytes
    if label.startswith(FLOOR):
        percent = int(label.removeprefix(FLOOR).strip("+%") or "0")
        return -(-floor_bytes * (100 + percent) // 100)
    ram_bytes = keep_bytes * int(label) // 100
    return ram_bytes if ram_bytes >= floor_bytes else None
