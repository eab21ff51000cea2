"""Small valid documents, as plain JSON values, for tests to spoil."""

from __future__ import annotations

from typing import Any

from poet_core.graph_document import graph_sha256, graph_to_document
from poet_core.plan import Allowed, Bound, Budget, HoldsFor, Objective, Plan, PlannedBy
from poet_core.plan_document import plan_to_document
from poet_core.simulate import simulate
from tests.core.training_step import COSTS, GRAPH, KEEP

BUDGET = Budget(
    ram_bytes=64, reserved_bytes=2, alignment_bytes=2, overlap=True, flash_bytes=1000,
    flash_write_bytes=500, step_seconds=100.0, energy_joules=1e3,
)  # fmt: skip
PLAN = Plan(
    graph_sha256=graph_sha256(GRAPH),
    device_name="board",
    budget=BUDGET,
    objective=Objective.ENERGY,
    allowed=Allowed(reorder=False),
    costs=COSTS,
    schedule=KEEP,
    claims=simulate(GRAPH, COSTS, BUDGET, KEEP).claims,
    planned_by=PlannedBy(
        formulation="keep-everything", solver="none", status="It fits.", wall_seconds=0.5
    ),
    bound=Bound(value=10.0, holds_for=HoldsFor.ANY_ORDER, by="every op runs at least once"),
)


def graph_document() -> dict[str, Any]:
    return graph_to_document(GRAPH)


def plan_document() -> dict[str, Any]:
    return plan_to_document(PLAN)


def device_document() -> dict[str, Any]:
    return {
        "schema": "poet.device/1",
        "name": "mine",
        "title": "My board",
        "ram_bytes": 65536,
        "flops_per_second": {"value": 1e6, "source": "data sheet", "estimate": True},
        "flops_per_joule": 1e7,
        "page_in_latency_seconds": 0,
        "page_in_bytes_per_second": 1e6,
        "page_out_latency_seconds": 0.001,
        "page_out_bytes_per_second": 1e6,
        "flash_watts": 0.1,
        "overlap": True,
        "flash_bytes": None,
    }


def changed(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `document` with `value` at `path`; `REMOVED` takes the member away."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    copy = dict(document) if isinstance(document, dict) else list(document)
    if value is REMOVED and not rest:
        del copy[head]
    else:
        inner = copy[head] if rest or not isinstance(copy, dict) else copy.get(head)
        copy[head] = changed(inner, rest, value)
    return copy


REMOVED = object()
