"""What /openapi.json says, beside what FastAPI finds out by itself. Every example works as it is
(a test posts each of them).

The bodies are read by poet_core's strict readers, not by pydantic, so their schemas are stated
here; the graph's and the plan's own schemas are docs/schemas/*.json.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any


def _version() -> str:
    try:
        return version("poet-planner")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def _chain(layers: int, size_bytes: int) -> dict[str, Any]:
    """A training step in small: a chain of layers, its loss, the way back, one update."""
    storages: list[dict[str, Any]] = []
    ops: list[dict[str, Any]] = []

    def storage(name: str, role: str, **more: Any) -> int:
        known = {"id": len(storages), "name": name, "bytes": size_bytes, "role": role}
        storages.append(known | more)
        return len(storages) - 1

    def op(name: str, phase: str, reads: list[int], **more: Any) -> None:
        known = {"id": len(ops), "name": name, "kind": "example", "phase": phase}
        ops.append(known | {"reads": reads, "flops": 1_000_000} | more)

    weight = storage("weight", "parameter", persistent=True)
    values = [storage("x", "input")]
    for layer in range(layers):
        values.append(storage(f"activation{layer}", "activation"))
        op(f"forward{layer}", "forward", [values[-2]], writes=[values[-1]])
    loss = storage("loss", "result", bytes=4, result=True)
    op("loss", "forward", [values[-1]], writes=[loss])
    gradient = loss
    for layer in reversed(range(layers)):
        reads = [gradient, values[layer + 1]]
        gradient = storage(f"gradient{layer}", "gradient")
        op(f"backward{layer}", "backward", reads, writes=[gradient])
    op("update", "update", [gradient], mutates=[weight], recomputable=False)
    return {"schema": "poet.graph/1", "name": "chain", "storages": storages, "ops": ops}


_GRAPH = _chain(layers=3, size_bytes=4096)

EXAMPLES: dict[str, dict[str, Any]] = {
    "named_device": {
        "summary": "A small chain on a microcontroller, with a time limit",
        "value": {
            "graph": _GRAPH,
            "device": "mkr1000",
            "budget": {"ram_bytes": 16400, "time_ratio": 1.5},
            "objective": "energy",
        },
    },
    "own_profile": {
        "summary": "Your own device, no paging, HiGHS",
        "value": {
            "graph": _GRAPH,
            "device": {
                "schema": "poet.device/1",
                "name": "my-board",
                "title": "My board",
                "ram_bytes": 65536,
                "flops_per_second": 1e6,
                "flops_per_joule": {"value": 1e7, "source": "my power meter"},
                "page_in_latency_seconds": 1e-4,
                "page_in_bytes_per_second": 4e6,
                "page_out_latency_seconds": 1e-4,
                "page_out_bytes_per_second": 4e6,
                "flash_watts": 0.3,
            },
            "budget": {"ram_bytes": 20480},
            "allowed": {"page": False},
            "planner": {"backend": "highs", "wall_seconds": 30},
        },
    },
}

_PROBLEM = {
    "type": "object",
    "required": ["code", "detail", "hint", "kind", "status", "title", "type"],
    "properties": {
        "code": {"type": "string", "description": "stable; see docs/service.md"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "kind": {"type": "string"},
        "status": {"type": "integer"},
        "title": {"type": "string"},
        "type": {"type": "string"},
    },
    "additionalProperties": True,
}


def _problem(description: str, **example: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _PROBLEM}
    if example:
        content["example"] = example
    return {"description": description, "content": {"application/problem+json": content}}


def _json(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    schema = schema or {"type": "object"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_BELOW_FLOOR = {
    "code": "ram_below_floor",
    "detail": "The RAM budget of 1024 bytes (1.00 KiB) is below the floor of 12292 bytes ...",
    "hint": "Give at least 12292 bytes, use a smaller batch.",
    "kind": "budget",
    "floor_bytes": 12292,
    "op": 4,
    "status": 422,
    "title": "Unprocessable Content",
    "type": "about:blank",
}

_LIMIT = {"type": "number", "minimum": 0}
_RATIO = {"type": "number", "minimum": 1}
_REQUEST_SCHEMA = {
    "type": "object",
    "required": ["graph", "device", "budget"],
    "additionalProperties": False,
    "properties": {
        "graph": {"type": "object", "description": "poet.graph/1"},
        "device": {
            "oneOf": [
                {"type": "string", "description": "a name of GET /v1/devices"},
                {"type": "object", "description": "poet.device/1"},
            ]
        },
        "budget": {
            "type": "object",
            "required": ["ram_bytes"],
            "additionalProperties": False,
            "properties": {
                "ram_bytes": {"type": "integer", "minimum": 1},
                "time_ratio": _RATIO,
                "step_seconds": _LIMIT,
                "energy_ratio": _RATIO,
                "energy_joules": _LIMIT,
                "flash_bytes": {"type": "integer", "minimum": 0},
                "flash_write_bytes": {"type": "integer", "minimum": 0},
            },
        },
        "objective": {"enum": ["energy", "time"], "default": "energy"},
        "allowed": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                name: {"type": "boolean", "default": True}
                for name in ("page", "rematerialize", "reorder")
            },
        },
        "planner": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "name": {"enum": ["portfolio", "poet-milp"], "default": "portfolio"},
                "backend": {"enum": ["auto", "cbc", "highs"], "default": "auto"},
                "wall_seconds": {"type": "number", "minimum": 0.1},
                "patience_seconds": {"type": "number", "minimum": 0.1, "default": 10},
            },
        },
    },
}

_PLAN_REPLY = {
    "type": "object",
    "required": ["id", "plan", "summary"],
    "properties": {
        "id": {"type": "string", "description": "32 hexadecimal digits"},
        "plan": {"type": "object", "description": "poet.plan/1, accepted by the judge"},
        "summary": {"type": "object", "description": "the plan against keep-everything"},
    },
}

DESCRIPTION: dict[str, Any] = {
    "title": "POET planner",
    "version": _version(),
    "description": "Plans a training step inside a device's RAM: keep, page or rematerialize "
    "every tensor. Every plan that leaves has been judged.",
}

HEALTH: dict[str, Any] = {"summary": "Is the service up?", "responses": {200: _json("It is.")}}
DEVICES: dict[str, Any] = {
    "summary": "The shipped devices",
    "responses": {200: _json("Profiles (poet.device/1), every number with its source.")},
}
DEVICE: dict[str, Any] = {
    "summary": "One shipped device",
    "responses": {200: _json("poet.device/1"), 404: _problem("No such device")},
}
MAKE_PLAN: dict[str, Any] = {
    "summary": "Plan a training step",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _REQUEST_SCHEMA, "examples": EXAMPLES}},
        }
    },
    "responses": {
        200: _json("A judged plan", _PLAN_REPLY),
        400: _problem("Not strict JSON"),
        413: _problem("More bytes than a body may have"),
        415: _problem("Another content type than application/json"),
        422: _problem("A request that no plan can answer", **_BELOW_FLOOR),
        429: _problem("All places are taken; see Retry-After"),
        504: _problem("No plan found in the time given; that proves nothing"),
    },
}
GET_PLAN: dict[str, Any] = {
    "summary": "A plan made earlier",
    "responses": {200: _json("The same reply", _PLAN_REPLY), 404: _problem("Unknown id")},
}
