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
    """One graph on one device. `network` names the traced variant (`bert-base-128-b1`) or POET's
    list of layers (`poet/vgg16-a72`)."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PointContext:
    """What a method may know beside the problem.

    `budgets_bytes`: every budget of the series, tightest first: the order in which a method gets them.
    `device`: the profile; None for POET's own lists. `published`: POET's own graph where there is one.
    `graph_sha256`: of the problem's graph, for a Plan (it takes long to compute).
    `shared`: empty when the series begins, and then whatever methods put there under their own names:
    what does not depend on the budget is computed once. Of one method at a time, in one process.
    """

    point: Point
    budgets_bytes: tuple[int, ...]
    device: DeviceProfile | None
    published: PublishedGraph | None
    graph_sha256: str
    shared: dict[str, Any] = field(default_factory=dict)


Answer = Plan | Schedule | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to get a plan.

    `sources`: files and globs, from the repository's root, whose digest is the method's version.
    `run(problem, seconds, context)`: a plan or schedule within about `seconds`, None where none was
    found or the method does not apply. A BudgetError says that none can exist, a PlanningError that none
    was found. The runner judges what comes back with the problem's own graph, costs, budget and
    `allowed`; a refused plan is recorded as a fault. `seconds` 0: it takes no limit.
    """

    name: str
    sources: tuple[str, ...]
    run: Callable[[Problem, float, PointContext], Answer]
