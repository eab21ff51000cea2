"""Twins: storages that nothing tells apart, such as the two moments of one Adam update.

They have the same size, flags and transfer costs, and every op treats them alike; exchanging them
turns a schedule into another of the same cost. One row per pair of twins keeps the solver from
proving everything twice. Invariant: at least one optimum satisfies all rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import pairwise

from poet_solvers.milp_model import JudgedModel


def add_twin_order(model: JudgedModel) -> None:
    """Of twins, the one with the lower id is in RAM at the start (or through its first gap) if
    the other is."""
    for twins in _twin_classes(model):
        for first, second in pairwise(twins):
            a, b = model.start_ram.get(first), model.start_ram.get(second)
            if a is None or b is None:
                a = model.hold.get((model.table.first_of[first], 0))
                b = model.hold.get((model.table.first_of[second], 0))
            if a is not None and b is not None:
                model.row([(a, 1), (b, -1)], ">=", 0, f"twins_{first}_{second}")


def _twin_classes(model: JudgedModel) -> list[list[int]]:
    graph, costs = model.problem.graph, model.problem.costs
    touched: dict[int, list[tuple[int, str]]] = {}
    for op in graph.ops:
        for how, storages in (("r", op.reads), ("w", op.writes), ("m", op.mutates)):
            for storage_id in storages:
                touched.setdefault(storage_id, []).append((op.id, how))
    classes: dict[Hashable, list[int]] = {}
    for value in model.table.values:
        storage = graph.storages[value.storage]
        if value.version:
            continue
        key = (
            storage.size_bytes, storage.persistent, storage.result,
            graph.begins_resident(storage.id), tuple(touched.get(storage.id, ())),
            costs.page_in_joules[storage.id], costs.page_out_joules[storage.id],
            costs.page_in_seconds[storage.id], costs.page_out_seconds[storage.id],
        )  # fmt: skip
        classes.setdefault(key, []).append(storage.id)
    return [members for members in classes.values() if len(members) > 1]
