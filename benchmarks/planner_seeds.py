"""Which seeds of a point still matter, and what their median is.

Invariant: a seed is left out only where it cannot change the median of all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Record = dict[str, Any]

ALL_SEEDS = 5
# Endings after which no schedule that the problem allows can be cheaper.
_SETTLED = ("FITS", "PROVEN")


def seed_records(records: Iterable[Record], instance: str, budget: str) -> list[Record]:
    """The table's records of a point, by seed."""
    found = [
        record
        for record in records
        if record["job"]["part"] == "table"
        and (record["job"]["instance"], record["job"]["budget"]) == (instance, budget)
    ]
    return sorted(found, key=lambda record: int(record["job"]["seed"]))


def settled_by(records: Iterable[Record]) -> str | None:
    """Why no further seed can change the median of five, or None."""
    whole = list(records)
    if any(record.get("ending") in _SETTLED for record in whole):
        return "proven optimal"
    costs = Counter(f"{record['cost']:.9g}" for record in whole if "cost" in record)
    if costs and max(costs.values()) > ALL_SEEDS // 2:
        return f"{max(costs.values())} of {ALL_SEEDS} seeds cost the same"
    return None


def median_record(records: list[Record]) -> Record | None:
    """The record that stands for a point: proven, else at the median (of an even number the dearer)."""
    proven = [record for record in records if record.get("ending") in _SETTLED]
    if proven:
        return proven[0]
    costs = Counter(f"{record['cost']:.9g}" for record in records if "cost" in record)
    for record in records:
        if "cost" in record and costs[f"{record['cost']:.9g}"] > ALL_SEEDS // 2:
            return record
    ordered = sorted(records, key=lambda record: float(record.get("cost", float("inf"))))
    return ordered[len(ordered) // 2] if ordered else None


def needless_seed(records: Iterable[Record], job: Mapping[str, Any]) -> bool:
    """Whether a job is a further seed of a point whose median is settled."""
    if job["part"] != "table" or job["seed"] == 0:
        return False
    return settled_by(seed_records(records, job["instance"], job["budget"])) is not None
