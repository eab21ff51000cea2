"""Records of the planner benchmark -> one document and its tables.

Invariant: `summary` computes, `markdown` only lays out, so that tables can be made again from
results/planner.json alone. Every table says what its seconds are of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.alternatives import ALTERNATIVES
from benchmarks.planner_points import (
    GAP_TARGETS,
    PLANNERS,
    PROOF_SHARE,
    PROTOTYPE,
    PUBLISHED,
    REPORT_ONLY,
    meets,
)
from benchmarks.planner_seeds import ALL_SEEDS, Record, median_record, seed_records, settled_by
from benchmarks.planner_tables import (
    alternative_table,
    frontier_table,
    gap_table,
    greedy_table,
    heading,
    point_table,
    proof_table,
    published_table,
    single_table,
)

Summary = dict[str, Any]

_SHOWN = (
    "ram_percent",
    "ops",
    "found_by",
    "near_seconds",
    "final_seconds",
    "bound_percent",
    "bound_by",
    "holds_for",
    "gap_percent",
    "overhead_gap_percent",
    "ending",
    "wall_seconds",
    "error",
)


def summary(
    records: list[Record], key: Mapping[str, Any], machine: Mapping[str, Any], seeds: int
) -> Summary:
    """Everything that the tables and the picture show."""
    return {
        "key": dict(key),
        "machine": dict(machine),
        "seeds": seeds,
        "points": [
            point
            for name, row in PROTOTYPE.items()
            for budget, figure in row.items()
            if (point := _point(records, name, budget, figure)) is not None
        ],
        "proofs": [_plain(record) for record in _of(records, "proof")],
        "alternatives": [_plain(record) for record in _of(records, "alternative")],
        "greedy": [_plain(record) for record in _of(records, "greedy")],
        "readme": [_plain(record) for record in _of(records, "readme")],
        "scale": [_plain(record) for record in _of(records, "scale")],
        "frontier": [_plain(record) for record in _of(records, "frontier")],
    }


def _of(records: Iterable[Record], part: str) -> list[Record]:
    return [record for record in records if record["job"]["part"] == part]


def _plain(record: Record) -> Record:
    """A record as it is stored for good: the key is the run's, the history is long."""
    return {name: value for name, value in record.items() if name not in ("key", "history")}


def _point(records: list[Record], name: str, budget: str, figure: float) -> Record | None:
    found = seed_records(records, name, budget)
    middle = median_record(found)
    if middle is None:
        return None
    overheads = {str(one["job"]["seed"]): one.get("overhead_percent") for one in found}
    known = [value for value in overheads.values() if value is not None]
    median = middle.get("overhead_percent")
    return {
        "instance": name,
        "budget": budget,
        "figure": figure,
        "overhead_by_seed": overheads,
        "median": median,
        "best": min(known, default=None),
        "worst_near_seconds": max(
            (one["near_seconds"] for one in found if "near_seconds" in one), default=None
        ),
        "seeds_not_run": None if len(found) >= ALL_SEEDS else settled_by(found) or "not asked for",
        "verdict": _verdict(name, budget, median, figure),
        "published": [
            {"planner": one.planner, "overhead": one.overhead_percent, "seconds": one.seconds}
            for one in PUBLISHED.get((name, budget), ())
        ],
        **{field: middle.get(field) for field in _SHOWN},
    }


def _verdict(name: str, budget: str, median: float | None, figure: float) -> str:
    if (name, budget) in REPORT_ONLY:
        return "report only"
    return "meets" if median is not None and meets(median, figure) else "misses"


def markdown(found: Summary) -> str:
    """All tables."""
    points: list[Record] = found["points"]
    judged = [point for point in points if point["verdict"] != "report only"]
    met = sum(point["verdict"] == "meets" for point in judged)
    proven = sum(bool(proof.get("proven")) for proof in found["proofs"])
    parts = [
        heading(found),
        f"## The table: {met} of {len(judged)} figures met\n\n" + point_table(points),
        "## Published planners\n\n" + _planners() + "\n\n" + published_table(points),
        "## What one would do without a planner\n\n"
        "Overhead in %, each alternative at its best (`benchmarks/alternatives.py`); "
        "\u2013: no variant of it fits, or it does not apply.\n\n"
        + alternative_table(points, found["alternatives"], ALTERNATIVES),
        f"## Proofs in the given order: {proven} of {len(found['proofs'])} "
        f"(target {PROOF_SHARE:.0%} of 41)\n\n" + proof_table(found["proofs"]),
        "## Gaps on total cost\n\n" + gap_table(points, GAP_TARGETS),
        "## Greedy alone\n\n" + greedy_table(found["greedy"]),
        "## POET's README instance and a deep step\n\n"
        + single_table([*found["readme"], *found["scale"]]),
        "## A frontier\n\n" + frontier_table(found["frontier"]),
    ]
    return "\n\n".join(parts) + "\n"


def _planners() -> str:
    told = "; ".join(f"{name}: {where}" for name, where in PLANNERS.items())
    return (
        f"{told}. Their figures have one or two decimals; ours is the median, with the seconds until "
        "its overhead was within 1% of the final one, the slowest seed's."
    )
