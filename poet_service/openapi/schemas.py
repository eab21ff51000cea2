"""Schemas of requests and replies. What may be asked is closed (an unknown member is an error); what
is answered may gain members."""

from __future__ import annotations

from typing import Any, get_args

from poet_core.devices import device_names
from poet_core.plan_request import PlannerChoice
from poet_service.jobs.records import EventKind, JobKind
from poet_service.jobs.states import SolveState
from poet_service.openapi.documents import (
    Schema,
    array,
    boolean,
    device_schema,
    graph_schema,
    integer,
    number,
    optional,
    plan_schema,
    record,
    string,
)
from poet_service.settings import Settings

_FIGURES = ("cost", "bound", "gap", "elapsed_seconds")
_ID = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_STATE = {"enum": [str(state) for state in SolveState]}
_LINKS = {"type": "object", "additionalProperties": {"type": "string"}}
_SECONDS_SINCE_1970 = {"type": "number", "description": "seconds since 1970"}
_ERROR = {
    "type": ["object", "null"],
    "required": ["code", "detail", "hint", "kind"],
    "properties": {name: {"type": "string"} for name in ("code", "detail", "hint", "kind")},
}


def ref(name: str) -> Schema:
    """A reference to one of `components`."""
    return {"$ref": f"#/components/schemas/{name}"}


def components(settings: Settings) -> dict[str, Schema]:
    """Every schema that the description names."""
    return {
        "Graph": graph_schema(settings),
        "Device": device_schema(),
        "Plan": plan_schema(settings),
        "PlanRequest": _request(settings, {"warm_start": _or_null(ref("Plan"))}),
        "VerifyRequest": _request(settings, {}, {"plan": ref("Plan")}),
        "FrontierRequest": _frontier_request(settings),
        "PlanJob": _plan_job(),
        "JobList": _answer({"jobs": {"type": "array", "items": _listed()}, "next": _nullable(_ID)}),
        "FrontierJob": _frontier_job(),
        "Log": _answer({"text": {"type": "string"}, "next_offset": integer(), "done": boolean()}),
        "Examination": _examination(),
        "Verdict": _verdict(),
        "Event": _event(),
        "Devices": _answer({"devices": {"type": "array", "items": ref("Device")}}),
        "Status": _answer({"status": {"type": "string"}}),
        "Problem": _problem(),
    }


def _answer(members: dict[str, Schema], other: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "required": list(members),
        "properties": {**members, **(other or {})},
    }


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _budget(*, with_ram: bool) -> Schema:
    ratio = optional(number(1))
    limits = {
        "time_ratio": ratio,
        "step_seconds": optional(number()),
        "energy_ratio": ratio,
        "energy_joules": optional(number()),
        "flash_bytes": optional(integer()),
        "flash_write_bytes": optional(integer()),
    }
    twice = [
        {"properties": {ratio: {"type": "number"}, amount: {"type": "number"}},
         "required": [ratio, amount]}
        for ratio, amount in (("time_ratio", "step_seconds"), ("energy_ratio", "energy_joules"))
    ]  # fmt: skip
    return record({"ram_bytes": integer(1)} if with_ram else {}, limits) | {"not": {"anyOf": twice}}


def _planner(settings: Settings) -> Schema:
    seconds = {"type": ["number", "null"], "minimum": 0.1, "maximum": settings.most_wall_seconds}
    return record(
        {},
        {
            "name": {"enum": [*get_args(PlannerChoice), None], "default": "portfolio"},
            "backend": {"enum": ["auto", "cbc", "highs", None], "default": "auto"},
            "wall_seconds": seconds | {"default": settings.default_wall_seconds},
            "patience_seconds": seconds | {"default": 10},
        },
    )


def _common(settings: Settings) -> tuple[dict[str, Schema], dict[str, Schema]]:
    allowed = {name: optional(boolean()) for name in ("page", "rematerialize", "reorder")}
    device = {"enum": list(device_names()), "description": "a name of GET /v1/devices"}
    return (
        {"graph": ref("Graph"), "device": {"anyOf": [device, ref("Device")]}},
        {
            "objective": {"enum": ["energy", "time", None], "default": "energy"},
            "allowed": optional(record({}, allowed)),
            "planner": optional(_planner(settings)),
        },
    )


def _request(
    settings: Settings, other: dict[str, Schema], required: dict[str, Schema] | None = None
) -> Schema:
    asked, may = _common(settings)
    return record({**asked, "budget": _budget(with_ram=True), **(required or {})}, {**may, **other})


def _frontier_request(settings: Settings) -> Schema:
    asked, may = _common(settings)
    most = settings.frontier_points
    which = {
        "budget": optional(_budget(with_ram=False)),
        "points": {"type": ["integer", "null"], "minimum": 1, "maximum": most, "default": 12},
        "ram_bytes": optional(array(integer(1), most) | {"minItems": 1}),
    }
    both = {
        "properties": {"points": {"type": "integer"}, "ram_bytes": {"type": "array"}},
        "required": ["points", "ram_bytes"],
    }
    return record(asked, {**may, **which}) | {"not": both}


def _job(kind: JobKind) -> dict[str, Schema]:
    return {
        "id": _ID,
        "kind": {"const": str(kind)},
        "state": _STATE,
        "created_at": _SECONDS_SINCE_1970,
        "links": _LINKS,
    }


def _figures() -> dict[str, Schema]:
    return {name: {"type": ["number", "null"]} for name in _FIGURES}


def _plan_job() -> Schema:
    times = {name: _nullable(_SECONDS_SINCE_1970) for name in ("started_at", "finished_at")}
    return _answer(
        {
            **_job(JobKind.PLAN),
            "attempt": integer(),
            **times,
            **_figures(),
            "plan": {"type": ["object", "null"], "description": "poet.plan/1: the best so far"},
            "summary": {
                "type": ["object", "null"],
                "description": "the plan against keep-everything",
            },
            "error": _ERROR,
        }
    )


def _listed() -> Schema:
    return _answer(
        {
            "id": _ID,
            "kind": {"enum": [str(kind) for kind in JobKind]},
            "state": _STATE,
            "created_at": _SECONDS_SINCE_1970,
            "links": _LINKS,
        }
    )


def _frontier_job() -> Schema:
    point = _answer(
        {
            "ram_bytes": integer(1),
            "state": _STATE,
            "peak_bytes": optional(integer()),
            "energy_joules": {"type": ["number", "null"]},
            "step_seconds": {"type": ["number", "null"]},
            **_figures(),
            "from_ram_bytes": optional(integer()),
            "error": _ERROR,
            "links": _LINKS,
        }
    )
    return _answer(
        {
            **_job(JobKind.FRONTIER),
            "objective": {"enum": ["energy", "time"]},
            "keep_everything_bytes": integer(),
            "floor_bytes": integer(),
            "points": {"type": "array", "items": point},
        }
    )


def _event() -> Schema:
    kinds = [*(str(kind) for kind in EventKind), "point"]
    data = {"type": "string", "description": "a JSON object"}
    return _answer({"event": {"enum": kinds}, "data": data}, {"id": {"type": "string"}})


def _examination() -> Schema:
    counts = ("ops", "storages", "references", "ram_bytes", "keep_everything_bytes", "floor_bytes")
    return _answer(
        {
            "graph_sha256": string(64),
            **{name: integer() for name in counts},
            "keep_everything_seconds": number(),
            "keep_everything_joules": number(),
            "keep_everything_fits": boolean(),
            "floor_op": optional(integer()),
            "floor_set_by": {"type": "string"},
            "lower_bound": {"type": "object"},
            "fits": boolean(),
            "refused": _ERROR,
        }
    )


def _verdict() -> Schema:
    return _answer(
        {
            "accepted": boolean(),
            "judgement": {"type": ["object", "null"]},
            "claims_hold": {"type": ["boolean", "null"]},
            "summary": {"type": ["object", "null"]},
            "error": _ERROR,
        }
    )


def _problem() -> Schema:
    texts: dict[str, Any] = {
        name: {"type": "string"} for name in ("detail", "hint", "kind", "title", "type")
    }
    code = {"type": "string", "description": "stable; see docs/service.md"}
    return _answer({"code": code, **texts, "status": {"type": "integer"}})
