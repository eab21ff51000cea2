"""`poet.graph/1`: a TrainingGraph as JSON. `docs/schemas/poet.graph-1.json` is its schema."""

from __future__ import annotations

from typing import Any

from poet_core.documents import DEFAULT_LIMITS, Limits, Node, parse_json, refuse, sha256_of
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph

SCHEMA = "poet.graph/1"

_ROLES = frozenset(Role)
_PHASES = frozenset(Phase)
_STORAGE_REQUIRED = frozenset({"id", "name", "bytes", "role"})
_STORAGE_OPTIONAL = frozenset({"persistent", "result"})
_OP_REQUIRED = frozenset({"id", "name", "kind", "phase"})
_OP_OPTIONAL = frozenset(
    {"module", "reads", "writes", "mutates", "flops", "bytes_moved", "workspace_bytes", "seconds",
     "recomputable", "random"}
)  # fmt: skip
_GRAPH_REQUIRED = frozenset({"schema", "storages", "ops"})
_GRAPH_OPTIONAL = frozenset({"name", "rng_state_bytes", "conditions"})
_CONDITIONS = frozenset({"threads", "dtype", "torch"})


def graph_to_document(graph: TrainingGraph) -> dict[str, Any]:
    """The graph as a JSON value. Every field is written, so equal graphs give equal hashes."""
    return {
        "schema": SCHEMA,
        "name": graph.name,
        "rng_state_bytes": graph.rng_state_bytes,
        "conditions": dict(graph.conditions),
        "storages": [
            {
                "id": storage.id,
                "name": storage.name,
                "bytes": storage.size_bytes,
                "role": str(storage.role),
                "persistent": storage.persistent,
                "result": storage.result,
            }
            for storage in graph.storages
        ],
        "ops": [
            {
                "id": op.id,
                "name": op.name,
                "module": op.module,
                "kind": op.kind,
                "phase": str(op.phase),
                "reads": list(op.reads),
                "writes": list(op.writes),
                "mutates": list(op.mutates),
                "flops": op.flops,
                "bytes_moved": op.bytes_moved,
                "workspace_bytes": op.workspace_bytes,
                "seconds": None if op.seconds is None else float(op.seconds),
                "recomputable": op.recomputable,
                "random": op.random,
            }
            for op in graph.ops
        ],
    }


def graph_sha256(graph: TrainingGraph) -> str:
    """The identity of a training step: SHA-256 over the canonical JSON of its document, less the
    name of the graph and the measured seconds of its ops.

    Neither changes what an instruction means (a plan carries its costs by value), and a step that
    is traced or timed again must still find its plan.
    """
    document = graph_to_document(graph)
    del document["name"]
    for op in document["ops"]:
        del op["seconds"]
    return sha256_of(document)


def read_graph(text: bytes | str, limits: Limits = DEFAULT_LIMITS) -> TrainingGraph:
    """The graph in a JSON text. Raises DocumentError (the text) or GraphError (its meaning)."""
    return graph_from_document(parse_json(text, limits), limits)


def graph_from_document(
    document: Any, limits: Limits = DEFAULT_LIMITS, path: str = "$"
) -> TrainingGraph:
    """The graph of a JSON value."""
    fields = Node(document, path, limits).fields(_GRAPH_REQUIRED, _GRAPH_OPTIONAL)
    fields.check_schema(SCHEMA)
    name, rng = fields.get("name"), fields.get("rng_state_bytes")
    storages = tuple(_read_storage(node) for node in fields["storages"].items(limits.storages))
    ops: list[Op] = []
    references = 0
    for node in fields["ops"].items(limits.ops):
        op = _read_op(node, limits)
        references += len(op.touches)
        if references > limits.references:
            refuse(f"{path}.ops", f"at most {limits.references} references to storages", "more",
                   code="limit_exceeded")  # fmt: skip
        ops.append(op)
    return TrainingGraph(
        storages=storages,
        ops=tuple(ops),
        rng_state_bytes=rng.integer() if rng else 0,
        conditions=_read_conditions(fields.get("conditions")),
        name=name.string() if name else "",
    )


def _read_conditions(node: Node | None) -> dict[str, str]:
    if node is None:
        return {}
    fields = node.fields(frozenset(), _CONDITIONS)
    return {key: fields[key].string() for key in sorted(_CONDITIONS) if fields.get(key)}


def _read_storage(node: Node) -> Storage:
    fields = node.fields(_STORAGE_REQUIRED, _STORAGE_OPTIONAL)
    persistent, result = fields.get("persistent"), fields.get("result")
    return Storage(
        id=fields["id"].integer(),
        name=fields["name"].string(),
        size_bytes=fields["bytes"].integer(),
        role=Role(fields["role"].choice(_ROLES)),
        persistent=persistent.boolean() if persistent else False,
        result=result.boolean() if result else False,
    )


def _read_op(node: Node, limits: Limits) -> Op:
    fields = node.fields(_OP_REQUIRED, _OP_OPTIONAL)

    def ids(name: str) -> tuple[int, ...]:
        item = fields.get(name)
        return item.integers(limits.references) if item else ()

    def amount(name: str) -> int:
        item = fields.get(name)
        return item.integer() if item else 0

    module, seconds = fields.get("module"), fields.get("seconds")
    recomputable, random = fields.get("recomputable"), fields.get("random")
    return Op(
        id=fields["id"].integer(),
        name=fields["name"].string(),
        module=module.string() if module else "",
        kind=fields["kind"].string(),
        phase=Phase(fields["phase"].choice(_PHASES)),
        reads=ids("reads"),
        writes=ids("writes"),
        mutates=ids("mutates"),
        flops=amount("flops"),
        bytes_moved=amount("bytes_moved"),
        workspace_bytes=amount("workspace_bytes"),
        seconds=seconds.number() if seconds else None,
        recomputable=recomputable.boolean() if recomputable else True,
        random=random.boolean() if random else False,
    )
