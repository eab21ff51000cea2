"""The values of a graph: one (storage, version) pair each, the static single assignment of a step.

A storage that is mutated holds several values one after the other in the same bytes: version k is
gone once the op that gives k + 1 has run. Zero-byte storages have no values (they are always
resident), but their versions still limit which ops may run again. Value ids are positions.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.graph import TrainingGraph
from poet_core.plan import Budget

BEFORE_STEP = -1
"""The stage in which persistent and input values are 'produced': before the first op."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One version of one storage.

    `ram_bytes` is rounded up to the alignment, `flash_bytes` is not. `producer` is the op that
    gives it or BEFORE_STEP; `users` the ops that need it, ascending. `at_end`: it is the storage's
    last version and the storage is persistent or a result.
    """

    id: int
    storage: int
    version: int
    ram_bytes: int
    flash_bytes: int
    producer: int
    users: tuple[int, ...]
    at_end: bool
    persistent: bool

    @property
    def starts_step(self) -> bool:
        """Whether the value exists before the first op."""
        return self.producer == BEFORE_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTable:
    """All values of a graph, and by op: what it needs, writes (new bytes) and mutates to.

    `written[op]` and `mutated[op]` together are what the op gives. `again_until[op]` is the last
    stage in which a further run of the op could find and leave current versions only, or the op's
    own stage where it may run only once.
    """

    values: tuple[Value, ...]
    needed: tuple[tuple[int, ...], ...]
    written: tuple[tuple[int, ...], ...]
    mutated: tuple[tuple[int, ...], ...]
    again_until: tuple[int, ...]
    first_of: dict[int, int]
    last_of: dict[int, int]

    def given(self, op_id: int) -> tuple[int, ...]:
        """The values that an op gives, written and mutated."""
        return self.written[op_id] + self.mutated[op_id]


def value_table(graph: TrainingGraph, budget: Budget) -> ValueTable:
    """The values of `graph`, their bytes rounded as `budget` rounds."""
    producer: dict[tuple[int, int], int] = {
        (storage.id, 0): BEFORE_STEP
        for storage in graph.storages
        if graph.begins_resident(storage.id)
    }
    users: dict[tuple[int, int], list[int]] = {}
    for op in graph.ops:
        for pair in graph.versions.need[op.id].items():
            users.setdefault(pair, []).append(op.id)
        for pair in graph.versions.gives[op.id].items():
            producer[pair] = op.id
    pairs = sorted(pair for pair in producer if graph.storages[pair[0]].size_bytes)
    id_of = {pair: index for index, pair in enumerate(pairs)}
    values = []
    for (storage_id, version), index in id_of.items():
        storage = graph.storages[storage_id]
        ends = storage.persistent or storage.result
        values.append(
            Value(
                id=index,
                storage=storage_id,
                version=version,
                ram_bytes=budget.rounded(storage.size_bytes),
                flash_bytes=storage.size_bytes,
                producer=producer[storage_id, version],
                users=tuple(users.get((storage_id, version), ())),
                at_end=ends and version == graph.versions.last[storage_id],
                persistent=storage.persistent,
            )
        )

    def ids(pairs_of: dict[int, int], among: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(
            id_of[storage, pairs_of[storage]]
            for storage in among
            if (storage, pairs_of[storage]) in id_of
        )

    versions = graph.versions
    return ValueTable(
        values=tuple(values),
        needed=tuple(ids(dict(versions.need[op.id]), op.reads + op.mutates) for op in graph.ops),
        written=tuple(ids(dict(versions.gives[op.id]), op.writes) for op in graph.ops),
        mutated=tuple(ids(dict(versions.gives[op.id]), op.mutates) for op in graph.ops),
        again_until=tuple(_again_until(graph, producer, op.id) for op in graph.ops),
        first_of={values[i].storage: i for i in reversed(range(len(values)))},
        last_of={values[i].storage: i for i in range(len(values))},
    )


def _again_until(graph: TrainingGraph, producer: dict[tuple[int, int], int], op_id: int) -> int:
    op = graph.ops[op_id]
    if op.mutates or not op.recomputable:
        return op_id
    # In the stage of the op that supersedes a version, earlier ops still run before it.
    touched = [*graph.versions.need[op_id].items(), *graph.versions.gives[op_id].items()]
    ends = [producer.get((storage, version + 1)) for storage, version in touched]
    # An op that reads version k of a storage and writes version k + 1 of it cannot exist here: a
    # storage is in one of reads, writes and mutates.
    return min([end for end in ends if end is not None], default=len(graph.ops) - 1)
