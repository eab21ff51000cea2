"""TrainingGraph: what one training step is, in ops and storages.

A *storage* is the unit of memory: views and aliases share one. *Document order*, the order in
which the ops are listed, is a valid execution order and gives the graph its meaning: a persistent
or input storage begins at version 0, and each op that writes or mutates a storage gives it the
next version. Invariant: a TrainingGraph that exists is consistent (ids are positions, every read
finds a version, every result is produced), so nobody checks again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from poet_core.errors import GraphError
from poet_core.text import printable


class Role(StrEnum):
    """What a storage is to people. Only `INPUT` changes the rules: it exists before the step."""

    INPUT = "input"
    PARAMETER = "parameter"
    BUFFER = "buffer"
    OPTIMIZER_STATE = "optimizer_state"
    ACTIVATION = "activation"
    GRADIENT = "gradient"
    RESULT = "result"


class Phase(StrEnum):
    """The part of the training step that an op belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A block of memory. `persistent`: lives across steps; `result`: in RAM at the end."""

    id: int
    name: str
    size_bytes: int
    role: Role
    persistent: bool = False
    result: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation of the step.

    `reads`, `writes` (overwritten, old content not needed) and `mutates` (read, then changed) are
    storage ids; a storage is in at most one of the three. `seconds` is a measured run time or None.
    """

    id: int
    name: str
    kind: str
    phase: Phase
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    mutates: tuple[int, ...] = ()
    module: str = ""
    flops: int = 0
    bytes_moved: int = 0
    workspace_bytes: int = 0
    seconds: float | None = None
    recomputable: bool = True
    random: bool = False

    @property
    def touches(self) -> tuple[int, ...]:
        """Every storage that must be resident while the op runs."""
        return self.reads + self.mutates + self.writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """The meaning of document order. Each tuple is indexed by op id (`last`: by storage id).

    need[op][storage]: version that the op must find, for its reads and mutates.
    gives[op][storage]: version that the op leaves, for its writes and mutates.
    last[storage]: version at the end of the step.
    """

    need: tuple[Mapping[int, int], ...]
    gives: tuple[Mapping[int, int], ...]
    last: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingGraph:
    """One training step. Raises GraphError on construction where it contradicts itself."""

    storages: tuple[Storage, ...]
    ops: tuple[Op, ...]
    rng_state_bytes: int = 0
    conditions: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    versions: Versions = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_ids(self)
        object.__setattr__(self, "versions", _document_versions(self))

    def begins_resident(self, storage_id: int) -> bool:
        """Whether the storage has a version before the step (persistent or input)."""
        storage = self.storages[storage_id]
        return storage.persistent or storage.role is Role.INPUT


def _check_ids(graph: TrainingGraph) -> None:
    if not graph.ops:
        raise GraphError("Expected at least one op, got none.", code="graph_empty")
    if graph.rng_state_bytes < 0:
        _refuse("graph_negative", f"A generator state has {graph.rng_state_bytes} bytes", "0 up")
    for position, storage in enumerate(graph.storages):
        if storage.id != position:
            _refuse("graph_storage_id", f"Storage {position} has id {storage.id}", "its position")
        if storage.size_bytes < 0:
            _refuse("graph_negative", f"Storage {position} has {storage.size_bytes} bytes", "0 up")
    for position, op in enumerate(graph.ops):
        if op.id != position:
            _refuse("graph_op_id", f"Op {position} has id {op.id}", "its position")
        _check_op(op, len(graph.storages))


def _check_op(op: Op, known: int) -> None:
    if min(op.flops, op.bytes_moved, op.workspace_bytes) < 0:
        _refuse("graph_negative", f"Op {op.id} has a negative amount", "0 up")
    if op.seconds is not None and not 0 <= op.seconds < math.inf:
        _refuse("graph_negative", f"Op {op.id} takes {op.seconds} s", "0 up, finite")
    touched = op.touches
    for storage_id in touched:
        if not 0 <= storage_id < known:
            _refuse("graph_unknown_storage", f"Op {op.id} names storage {storage_id}",
                    f"an id from 0 to {known - 1}", op=op.id, storage=storage_id)  # fmt: skip
    if len(set(touched)) != len(touched):
        _refuse("graph_touches_twice", f"Op {op.id} names a storage twice",
                "each storage in one of reads, writes and mutates", op=op.id)  # fmt: skip


def _document_versions(graph: TrainingGraph) -> Versions:
    current: list[int | None] = [
        0 if graph.begins_resident(storage.id) else None for storage in graph.storages
    ]
    need: list[Mapping[int, int]] = []
    gives: list[Mapping[int, int]] = []
    for op in graph.ops:
        needed: dict[int, int] = {}
        for storage_id in op.reads + op.mutates:
            version = current[storage_id]
            if version is None:
                raise _read_before_write(graph, op, storage_id)
            needed[storage_id] = version
        given: dict[int, int] = {}
        for storage_id in op.writes + op.mutates:
            version = current[storage_id]
            given[storage_id] = current[storage_id] = 0 if version is None else version + 1
        need.append(needed)
        gives.append(given)
    last: list[int] = []
    for storage, version in zip(graph.storages, current, strict=True):
        if version is None:
            _refuse("graph_never_written", f"Storage {storage.id} is never written",
                    "a writer, or persistent = true, or role = input", storage=storage.id)  # fmt: skip
        else:
            last.append(version)
    return Versions(need=tuple(need), gives=tuple(gives), last=tuple(last))


def _read_before_write(graph: TrainingGraph, op: Op, storage_id: int) -> GraphError:
    """Tell a list in the wrong order from a graph that has no order at all."""
    import networkx as nx  # only needed to explain an error

    writers: dict[int, list[int]] = {}
    for other in graph.ops:
        for written in other.writes + other.mutates:
            writers.setdefault(written, []).append(other.id)
    arrows = nx.DiGraph()
    for other in graph.ops:
        for read in other.reads:
            firsts = () if graph.begins_resident(read) else writers.get(read, ())[:1]
            arrows.add_edges_from((first, other.id) for first in firsts)
    name = printable(graph.storages[storage_id].name)
    where = f"Op {op.id} ({printable(op.name)}) reads storage {storage_id} ({name})"
    details = {"op": op.id, "storage": storage_id}
    if not nx.is_directed_acyclic_graph(arrows):
        cycle = [edge[0] for edge in nx.find_cycle(arrows)][:8]
        return GraphError(
            f"{where} before any op writes it, and the ops form a cycle through {cycle}.",
            code="graph_cyclic",
            hint="A training step is a directed acyclic graph: unroll loops before export.",
            details=details,
        )
    return GraphError(
        f"{where} before any op writes it.",
        code="graph_order",
        hint="List the ops in an order in which they can run, or mark the storage persistent "
        "or as an input.",
        details=details,
    )


def _refuse(code: str, got: str, expected: str, **details: int) -> None:
    raise GraphError(f"{got}; expected {expected}.", code=code, details=details)
