"""`poet.addresses/1`: addresses as JSON, for a program that runs a plan without an allocator.

The document names the plan by the hash of its document, so that addresses are never used with
another one. Reading does not believe: what was read passes the independent check, or is refused.

    {"schema", "graph_sha256", "plan_sha256", "arena_bytes", "peak_bytes", "moved_bytes", "found_by",
     "placed": [[holds, target, first, last, offset_bytes, size_bytes], ...],
     "moves": [[before, holds, target, from_bytes, to_bytes, size_bytes], ...]}
"""

from __future__ import annotations

from typing import Any

from poet_core.documents import (
    DEFAULT_LIMITS,
    Limits,
    Node,
    describe,
    parse_json,
    refuse,
    sha256_of,
)
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.plan_document import plan_to_document
from poet_core.verify import verify
from poet_solvers.addresses.blocks import Addresses, Holds, Move, Placed
from poet_solvers.addresses.check import check_addresses

SCHEMA = "poet.addresses/1"

_FIELDS = frozenset(
    {"schema", "graph_sha256", "plan_sha256", "arena_bytes", "peak_bytes", "moved_bytes",
     "found_by", "placed", "moves"}
)  # fmt: skip
_ROW = 6
_HOLDS = frozenset(Holds)


def addresses_to_document(addresses: Addresses, plan: Plan) -> dict[str, Any]:
    """The addresses of `plan` as a JSON value."""
    return {
        "schema": SCHEMA,
        "graph_sha256": plan.graph_sha256,
        "plan_sha256": sha256_of(plan_to_document(plan)),
        "arena_bytes": addresses.arena_bytes,
        "peak_bytes": addresses.peak_bytes,
        "moved_bytes": addresses.moved_bytes,
        "found_by": addresses.found_by,
        "placed": [
            [str(p.holds), p.target, p.first, p.last, p.offset_bytes, p.size_bytes]
            for p in addresses.placed
        ],
        "moves": [
            [m.before, str(m.holds), m.target, m.from_bytes, m.to_bytes, m.size_bytes]
            for m in addresses.moves
        ],
    }


def read_addresses(
    text: bytes | str, graph: TrainingGraph, plan: Plan, limits: Limits = DEFAULT_LIMITS
) -> Addresses:
    """The addresses of `plan` in `text`, checked. Raises DocumentError where it is no such document
    or is of another plan, PlanError where the judge refuses the plan, PlanningError where a device
    could not run it at these addresses."""
    fields = Node(parse_json(text, limits), "$", limits).fields(_FIELDS)
    fields.check_schema(SCHEMA)
    for name, expected in (
        ("graph_sha256", plan.graph_sha256),
        ("plan_sha256", sha256_of(plan_to_document(plan))),
    ):
        if fields[name].string() != expected:
            refuse(f"$.{name}", f"the plan's, {expected[:16]}…", describe(fields[name].value),
                   code="addresses_for_other_plan")  # fmt: skip
    judgement = verify(graph, plan)
    placed = tuple(_read_placed(row) for row in fields["placed"].items(limits.values))
    addresses = Addresses(
        arena_bytes=fields["arena_bytes"].integer(),
        peak_bytes=fields["peak_bytes"].integer(),
        placed=placed,
        found_by=fields["found_by"].string(),
        moves=tuple(_read_move(row) for row in fields["moves"].items(limits.values)),
    )
    peak_bytes = judgement.peak_bytes - plan.budget.reserved_bytes
    for name, expected_bytes in (
        ("peak_bytes", peak_bytes),
        ("moved_bytes", addresses.moved_bytes),
    ):
        if fields[name].integer() != expected_bytes:
            refuse(f"$.{name}", str(expected_bytes), str(fields[name].integer()))
    check_addresses(graph, addresses, plan.schedule, plan.budget, judgement)
    return addresses


def _row(node: Node) -> list[Node]:
    cells = list(node.items(_ROW))
    if len(cells) != _ROW:
        refuse(node.path, f"a row of {_ROW}", f"{len(cells)}")
    return cells


def _read_placed(node: Node) -> Placed:
    holds, target, first, last, offset, size = _row(node)
    return Placed(
        holds=Holds(holds.choice(_HOLDS)),
        target=target.integer(),
        first=first.integer(least=-1),
        last=last.integer(least=-1),
        offset_bytes=offset.integer(),
        size_bytes=size.integer(least=1),
    )


def _read_move(node: Node) -> Move:
    before, holds, target, source, to, size = _row(node)
    return Move(
        before=before.integer(),
        holds=Holds(holds.choice(_HOLDS)),
        target=target.integer(),
        from_bytes=source.integer(),
        to_bytes=to.integer(),
        size_bytes=size.integer(least=1),
    )
