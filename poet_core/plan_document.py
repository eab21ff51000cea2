"""`poet.plan/1`: a Plan as JSON. `docs/schemas/poet.plan-1.json` is its schema.

A plan is complete in itself: budget and costs are carried by value.
"""

from __future__ import annotations

from typing import Any

from poet_core.costs import Costs
from poet_core.documents import DEFAULT_LIMITS, Fields, Limits, Node, parse_json
from poet_core.plan import (
    Allowed,
    Bound,
    Budget,
    Claims,
    Do,
    HoldsFor,
    Instruction,
    Objective,
    Plan,
    PlannedBy,
    Schedule,
)
from poet_core.simulate import INSTRUCTIONS_PER_OP

SCHEMA = "poet.plan/1"

_PLAN_REQUIRED = frozenset(
    {"schema", "graph_sha256", "problem", "start", "instructions", "claims", "planner"}
)
_PROBLEM = frozenset({"device", "objective", "allowed", "costs", "ram_bytes"})
_PROBLEM_OPTIONAL = frozenset(
    {"reserved_bytes", "alignment_bytes", "overlap", "flash_bytes", "flash_write_bytes",
     "step_seconds", "energy_joules"}
)  # fmt: skip
_COST_TABLES = (
    "op_seconds", "op_joules", "page_in_seconds", "page_in_joules", "page_out_seconds",
    "page_out_joules",
)  # fmt: skip
_CLAIMS = frozenset(
    {"peak_bytes", "step_seconds", "energy_joules", "flash_peak_bytes", "flash_bytes_written"}
)


def plan_to_document(plan: Plan) -> dict[str, Any]:
    """The plan as a JSON value."""
    budget, bound = plan.budget, plan.bound
    return {
        "schema": SCHEMA,
        "graph_sha256": plan.graph_sha256,
        "problem": {
            "device": plan.device_name,
            "objective": str(plan.objective),
            "allowed": {
                "page": plan.allowed.page,
                "rematerialize": plan.allowed.rematerialize,
                "reorder": plan.allowed.reorder,
            },
            "ram_bytes": budget.ram_bytes,
            "reserved_bytes": budget.reserved_bytes,
            "alignment_bytes": budget.alignment_bytes,
            "overlap": budget.overlap,
            "flash_bytes": budget.flash_bytes,
            "flash_write_bytes": budget.flash_write_bytes,
            "step_seconds": budget.step_seconds,
            "energy_joules": budget.energy_joules,
            "costs": {
                **{name: list(getattr(plan.costs, name)) for name in _COST_TABLES},
                "idle_watts": plan.costs.idle_watts,
            },
        },
        "start": {"ram": list(plan.schedule.start_ram), "flash": list(plan.schedule.start_flash)},
        "instructions": [_instruction_document(item) for item in plan.schedule.instructions],
        "claims": {name: getattr(plan.claims, name) for name in sorted(_CLAIMS)},
        "bound": None
        if bound is None
        else {"value": bound.value, "holds_for": str(bound.holds_for), "by": bound.by},
        "planner": {
            "formulation": plan.planned_by.formulation,
            "solver": plan.planned_by.solver,
            "status": plan.planned_by.status,
            "wall_seconds": plan.planned_by.wall_seconds,
            "model_bound": plan.planned_by.model_bound,
        },
    }


def read_plan(text: bytes | str, limits: Limits = DEFAULT_LIMITS) -> Plan:
    """The plan in a JSON text. Raises DocumentError; whether the plan holds is the judge's word."""
    return plan_from_document(parse_json(text, limits), limits)


def plan_from_document(document: Any, limits: Limits = DEFAULT_LIMITS, path: str = "$") -> Plan:
    """The plan of a JSON value."""
    fields = Node(document, path, limits).fields(_PLAN_REQUIRED, frozenset({"bound"}))
    fields.check_schema(SCHEMA)
    problem = fields["problem"].fields(_PROBLEM, _PROBLEM_OPTIONAL)
    start = fields["start"].fields(frozenset({"ram", "flash"}))
    most = INSTRUCTIONS_PER_OP * limits.ops
    allowed = problem["allowed"].fields(frozenset({"page", "rematerialize", "reorder"}))
    return Plan(
        graph_sha256=fields["graph_sha256"].string(),
        device_name=problem["device"].string(),
        budget=_read_budget(problem),
        objective=Objective(problem["objective"].choice(frozenset(Objective))),
        allowed=Allowed(
            page=allowed["page"].boolean(),
            rematerialize=allowed["rematerialize"].boolean(),
            reorder=allowed["reorder"].boolean(),
        ),
        costs=_read_costs(problem["costs"], limits),
        schedule=Schedule(
            start_ram=start["ram"].integers(limits.storages),
            start_flash=start["flash"].integers(limits.storages),
            instructions=tuple(map(_read_instruction, fields["instructions"].items(most))),
        ),
        claims=_read_claims(fields["claims"]),
        planned_by=_read_planned_by(fields["planner"]),
        bound=_read_bound(fields.get("bound")),
    )


def _instruction_document(instruction: Instruction) -> dict[str, Any]:
    what = "op" if instruction.do is Do.COMPUTE else "storage"
    return {"do": str(instruction.do), what: instruction.target}


def _read_instruction(node: Node) -> Instruction:
    value = node.value
    is_compute = isinstance(value, dict) and value.get("do") == "compute"
    what = "op" if is_compute else "storage"
    fields = node.fields(frozenset({"do", what}))
    return Instruction(Do(fields["do"].choice(frozenset(Do))), fields[what].integer())


def _read_budget(problem: Fields) -> Budget:
    def integer(name: str, default: int, least: int = 0) -> int:
        node = problem.get(name)
        return node.integer(least) if node else default

    def limit(name: str) -> int | None:
        node = problem.get(name)
        return node.integer() if node else None

    def number(name: str) -> float | None:
        node = problem.get(name)
        return node.number() if node else None

    overlap = problem.get("overlap")
    return Budget(
        ram_bytes=problem["ram_bytes"].integer(),
        reserved_bytes=integer("reserved_bytes", 0),
        alignment_bytes=integer("alignment_bytes", 1, least=1),
        overlap=overlap.boolean() if overlap else False,
        flash_bytes=limit("flash_bytes"),
        flash_write_bytes=limit("flash_write_bytes"),
        step_seconds=number("step_seconds"),
        energy_joules=number("energy_joules"),
    )


def _read_costs(node: Node, limits: Limits) -> Costs:
    fields = node.fields(frozenset(_COST_TABLES), frozenset({"idle_watts"}))
    most = max(limits.ops, limits.storages)
    idle = fields.get("idle_watts")
    return Costs(
        **{name: fields[name].numbers(most) for name in _COST_TABLES},
        idle_watts=idle.number() if idle else 0.0,
    )


def _read_claims(node: Node) -> Claims:
    fields = node.fields(_CLAIMS)
    return Claims(
        peak_bytes=fields["peak_bytes"].integer(),
        step_seconds=fields["step_seconds"].number(),
        energy_joules=fields["energy_joules"].number(),
        flash_peak_bytes=fields["flash_peak_bytes"].integer(),
        flash_bytes_written=fields["flash_bytes_written"].integer(),
    )


def _read_planned_by(node: Node) -> PlannedBy:
    required = frozenset({"formulation", "solver", "status", "wall_seconds"})
    fields = node.fields(required, frozenset({"model_bound"}))
    model_bound = fields.get("model_bound")
    return PlannedBy(
        formulation=fields["formulation"].string(),
        solver=fields["solver"].string(),
        status=fields["status"].string(),
        wall_seconds=fields["wall_seconds"].number(),
        model_bound=None if model_bound is None else model_bound.number(least=-1e300),
    )


def _read_bound(node: Node | None) -> Bound | None:
    if node is None:
        return None
    fields = node.fields(frozenset({"value", "holds_for", "by"}))
    return Bound(
        value=fields["value"].number(least=-1e300),
        holds_for=HoldsFor(fields["holds_for"].choice(frozenset(HoldsFor))),
        by=fields["by"].string(),
    )
