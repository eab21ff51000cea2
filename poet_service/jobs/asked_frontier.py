"""A frontier that was asked: the same step under several RAM budgets, each a request of its own.

    {"graph": ..., "device": ..., "budget": {"time_ratio": 1.2},     no ram_bytes in the budget
     "points": 12}  or  {"ram_bytes": [..]}                           how many, or which

Runs in a work thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from poet_core.bounds import check_above_floor, check_base_costs
from poet_core.documents import Node, refuse
from poet_core.plan_request import PlanRequest
from poet_service.jobs.asked import read_members, read_plan_request
from poet_service.jobs.keys import canonical_request
from poet_service.settings import Settings

DEFAULT_POINTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedFrontier:
    """`documents`: the canonical request of each RAM budget, loosest first."""

    wall_seconds: float
    documents: tuple[tuple[int, bytes], ...]


def read_asked_frontier(body: bytes, settings: Settings) -> AskedFrontier:
    """The requests in a body of POST /v1/frontiers. Raises as `read_asked` does."""
    members = read_members(body, settings)
    points, sizes = members.pop("points", None), members.pop("ram_bytes", None)
    if points is not None and sizes is not None:
        refuse("$", "one of points and ram_bytes", "both", code="limit_twice")
    count = _read_count(points, settings)
    named = None if sizes is None else _read_sizes(sizes, settings)
    request = read_plan_request(members | {"budget": _with_some_ram(members)}, settings)
    budgets = _default_sizes(request, count) if named is None else named
    requests = [replace(request, ram_bytes=ram_bytes) for ram_bytes in budgets]
    for each in requests:
        check_base_costs(each.problem())  # refuses what no plan can meet
    return AskedFrontier(
        wall_seconds=request.wall_seconds,
        documents=tuple((each.ram_bytes, canonical_request(each)) for each in requests),
    )


def _read_count(points: Any, settings: Settings) -> int:
    if points is None:
        return min(DEFAULT_POINTS, settings.frontier_points)
    return Node(points, "$.points").integer(least=1, most=settings.frontier_points)


def _read_sizes(sizes: Any, settings: Settings) -> tuple[int, ...]:
    nodes = list(Node(sizes, "$.ram_bytes").items(settings.frontier_points))
    if not nodes:
        refuse("$.ram_bytes", "at least one RAM budget", "none", code="out_of_range")
    return tuple(sorted({node.integer(least=1) for node in nodes}, reverse=True))


def _with_some_ram(members: dict[str, Any]) -> Any:
    """The budget with a RAM size for the reader of requests, which is replaced by each point's."""
    budget = members.get("budget")
    if budget is None:
        return {"ram_bytes": 1}
    if not isinstance(budget, dict):
        return budget  # the reader says what is wrong
    if "ram_bytes" in budget:
        refuse("$.budget.ram_bytes", "no RAM here", "a value: name RAM in $.ram_bytes",
               code="unknown_field")  # fmt: skip
    return budget | {"ram_bytes": 1}


def _default_sizes(request: PlanRequest, points: int) -> tuple[int, ...]:
    """Budgets from keep-everything's peak, or the device's RAM, down to the floor."""
    from poet_solvers.frontier_points import default_budgets

    most_bytes = request.profile.ram_bytes
    problem = replace(request, ram_bytes=most_bytes).stated_problem()
    check_above_floor(problem.graph, problem.budget, paging=problem.allowed.page)
    return default_budgets(problem, points, most_bytes=most_bytes)
