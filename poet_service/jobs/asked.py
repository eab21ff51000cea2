"""What was asked: from the bytes of a body to a request that makes sense, or the refusal.

Everything that can be refused without planning is refused here, before anything is stored: the
text, the document, the graph, the device, a budget that no plan can meet, a plan to start from that
is not for this graph. Runs in a work thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poet_core.bounds import check_base_costs
from poet_core.documents import canonical_json, parse_json, refuse
from poet_core.errors import PlanError
from poet_core.plan import Plan
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.plan_request import PlanRequest, request_from_document
from poet_core.verify import verify
from poet_service.body import check_nodes, check_product
from poet_service.jobs.keys import canonical_request
from poet_service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that a planner can begin with. `document` is its canonical text, `warm_start` that
    of a judged plan for the same graph."""

    document: bytes
    wall_seconds: float
    warm_start: bytes | None

    @property
    def size_bytes(self) -> int:
        """What keeping it takes."""
        return len(self.document) + len(self.warm_start or b"")


def read_asked(body: bytes, settings: Settings) -> Asked:
    """The request in a body of POST /v1/plans. Raises DocumentError, GraphError, DeviceError,
    UsageError, BudgetError."""
    members = read_members(body, settings)
    start = members.pop("warm_start", None)
    request = read_plan_request(members, settings)
    check_base_costs(request.problem())
    return Asked(
        document=canonical_request(request),
        wall_seconds=request.wall_seconds,
        warm_start=None if start is None else read_start(start, request, settings),
    )


def read_members(body: bytes, settings: Settings) -> dict[str, Any]:
    """The members of a body's JSON object. Raises DocumentError."""
    check_nodes(body, settings)
    document = parse_json(body, settings.limits)
    if not isinstance(document, dict):
        refuse("$", "an object", "something else", code="wrong_type")
    return document


def read_plan_request(members: dict[str, Any], settings: Settings) -> PlanRequest:
    """The plan request in a body's members, within the service's limits."""
    request = request_from_document(
        members,
        settings.limits,
        most_wall_seconds=settings.most_wall_seconds,
        default_wall_seconds=settings.default_wall_seconds,
    )
    check_product(request.graph, settings)
    return request


def read_plan_member(document: Any, path: str, settings: Settings) -> Plan:
    """A plan that came with a request; nobody has judged it yet."""
    return plan_from_document(document, settings.limits, path)


def read_start(document: Any, request: PlanRequest, settings: Settings) -> bytes:
    """The canonical text of a plan to start from: one for this very graph that the judge accepts
    under the budget that it was made for, which may be another than the request's."""
    plan = read_plan_member(document, "$.warm_start", settings)
    try:
        verify(request.graph, plan)
    except PlanError as error:
        code = error.code if error.code == "plan_for_other_graph" else "warm_start_refused"
        refuse("$.warm_start", "a plan for this graph that the judge accepts",
               f"one that it refuses ({error.code}): {error.message}", code=code)  # fmt: skip
    return canonical_json(plan_to_document(plan))
