"""Schemas of the documents that requests carry: graph, plan, device, within the service's limits.

They say what docs/schemas/*.json say (a test compares them). `x` holds whatever a client likes, and
a member that may be left out may be null.
"""

from __future__ import annotations

from typing import Any

from poet_core.units import LARGEST_INTEGER
from poet_service.settings import Settings

Schema = dict[str, Any]

_NAME_LENGTH = 1000
_COST_TABLES = ("op_seconds", "op_joules", "page_in_seconds", "page_in_joules",
                "page_out_seconds", "page_out_joules")  # fmt: skip
_POSITIVE = ("flops_per_second", "flops_per_joule", "page_in_bytes_per_second",
             "page_out_bytes_per_second")  # fmt: skip
_LATENCIES = ("page_in_latency_seconds", "page_out_latency_seconds", "flash_watts")


def integer(least: int = 0) -> Schema:
    """An integer that every JSON reader keeps exactly."""
    return {"type": "integer", "minimum": least, "maximum": LARGEST_INTEGER}


def number(least: float = 0) -> Schema:
    """A finite number."""
    return {"type": "number", "minimum": least, "maximum": 1e300}


def string(length: int = _NAME_LENGTH) -> Schema:
    """A name or a word of somebody's own."""
    return {"type": "string", "maxLength": length}


def boolean() -> Schema:
    """True or false."""
    return {"type": "boolean"}


def array(items: Schema, most: int) -> Schema:
    """At most `most` items."""
    return {"type": "array", "items": items, "maxItems": most}


def optional(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def record(required: dict[str, Schema], other: dict[str, Schema] | None = None) -> Schema:
    """An object with these members, and `x`."""
    return {
        "type": "object",
        "properties": {**required, **(other or {}), "x": {}},
        "required": list(required),
        "additionalProperties": False,
    }


def graph_schema(settings: Settings) -> Schema:
    """poet.graph/1."""
    storage = record(
        {
            "id": integer(),
            "name": string(),
            "bytes": integer(),
            "role": {
                "enum": ["input", "parameter", "buffer", "optimizer_state", "activation",
                         "gradient", "result"],
            },
        },
        {"persistent": optional(boolean()), "result": optional(boolean())},
    )  # fmt: skip
    named = optional(array(integer(), settings.references))
    amount = optional(integer())
    op = record(
        {
            "id": integer(),
            "name": string(),
            "kind": string(),
            "phase": {"enum": ["forward", "backward", "update"]},
        },
        {"module": optional(string()), "reads": named, "writes": named, "mutates": named,
         "flops": amount, "bytes_moved": amount, "workspace_bytes": amount,
         "seconds": optional(number()), "recomputable": optional(boolean()),
         "random": optional(boolean())},
    )  # fmt: skip
    conditions = record({}, {name: optional(string()) for name in ("threads", "dtype", "torch")})
    return record(
        {
            "schema": {"const": "poet.graph/1"},
            "storages": array(storage, settings.storages),
            "ops": array(op, settings.ops) | {"minItems": 1},
        },
        {
            "name": optional(string()),
            "rng_state_bytes": optional(integer()),
            "conditions": optional(conditions),
        },
    )


def device_schema() -> Schema:
    """poet.device/1: each value plain, or with its source."""

    def sourced(value: Schema) -> Schema:
        source = {"source": optional(string()), "estimate": optional(boolean())}
        return {"anyOf": [value, record({"value": value}, source)]}

    def left_out(value: Schema) -> Schema:
        return {"anyOf": [sourced(value), {"type": "null"}]}

    positive = {"type": "number", "exclusiveMinimum": 0, "maximum": 1e300}
    return record(
        {
            "schema": {"const": "poet.device/1"},
            "name": string(),
            "title": string(),
            "ram_bytes": sourced(integer(1)),
            **{name: sourced(positive) for name in _POSITIVE},
            **{name: sourced(number()) for name in _LATENCIES},
        },
        {
            "idle_watts": left_out(number()),
            "memory_bytes_per_second": left_out(positive),
            "flash_bytes": left_out(integer()),
            "alignment_bytes": left_out(integer(1)),
            "reserved_bytes": left_out(integer()),
            "overlap": left_out(boolean()),
            "measured": left_out(boolean()),
        },
    )


def plan_schema(settings: Settings) -> Schema:
    """poet.plan/1."""
    names = array(integer(), settings.storages)
    costs = array(number(), max(settings.ops, settings.storages))
    problem = record(
        {
            "device": string(),
            "objective": {"enum": ["energy", "time"]},
            "allowed": record({name: boolean() for name in ("page", "rematerialize", "reorder")}),
            "ram_bytes": integer(),
            "costs": record(dict.fromkeys(_COST_TABLES, costs), {"idle_watts": optional(number())}),
        },
        {
            "reserved_bytes": optional(integer()),
            "alignment_bytes": optional(integer(1)),
            "overlap": optional(boolean()),
            "flash_bytes": optional(integer()),
            "flash_write_bytes": optional(integer()),
            "step_seconds": optional(number()),
            "energy_joules": optional(number()),
        },
    )
    instruction = {
        "oneOf": [
            record({"do": {"const": "compute"}, "op": integer()}),
            record({"do": {"enum": ["page_out", "page_in", "free"]}, "storage": integer()}),
        ]
    }
    claims = record(
        {
            "peak_bytes": integer(),
            "step_seconds": number(),
            "energy_joules": number(),
            "flash_peak_bytes": integer(),
            "flash_bytes_written": integer(),
        }
    )
    planner = record(
        {"formulation": string(), "solver": string(), "status": string(), "wall_seconds": number()},
        {"model_bound": optional(number(-1e300))},
    )
    bound = record(
        {
            "value": number(-1e300),
            "holds_for": {"enum": ["given_order", "plan_order", "any_order"]},
            "by": string(),
        }
    )
    return record(
        {
            "schema": {"const": "poet.plan/1"},
            "graph_sha256": string(),
            "problem": problem,
            "start": record({"ram": names, "flash": names}),
            "instructions": array(instruction, 64 * settings.ops),
            "claims": claims,
            "planner": planner,
        },
        {"bound": optional(bound)},
    )
