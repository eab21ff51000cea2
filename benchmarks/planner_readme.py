"""The short table of the README, from results/planner.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"

ROWS = (
    ("RL1", "80"),
    ("RL3", "80"),
    ("MobileNet", "50"),
    ("ResNet-18, a72", "50"),
    ("ResNet-18, flops", "50"),
    ("VGG-16, flops", "60"),
    ("BERT-base, a72", "40"),
    ("BERT-base, m4", "40"),
)
_HOLDS = {"any_order": "any order", "given_order": "the given order", "plan_order": "its own order"}


_HEADING = (
    "| step (ops) | RAM | extra cost | within 1% of that after | nothing cheaper in | "
    "checkpointing | torch's partitioner | others' published |"
)


def table(results: Path = RESULTS / "planner.json") -> str:
    """Eight points in Markdown."""
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    points = {(one["instance"], one["budget"]): one for one in found["points"]}
    lines = [
        _HEADING,
        "|---|---|---|---|---|---|---|---|",
    ]
    for instance, budget in ROWS:
        point = points[instance, budget]
        lines.append(
            f"| {instance} ({point['ops']}) | {budget}% | {point['median']:.3g}% | "
            f"{point['worst_near_seconds']:.1f} s | {_proof(point)} | "
            f"{_alternative(found, instance, budget, 'checkpointing')} | "
            f"{_alternative(found, instance, budget, 'partitioner')} | {_published(point)} |"
        )
    return "\n".join(lines) + "\n"


def _proof(point: dict[str, Any]) -> str:
    if str(point["ending"]).startswith("PROVEN"):
        return str(_HOLDS[point["holds_for"]])
    return f"not proven; gap of the total {point['gap_percent']:.1g}%"


def _alternative(found: dict[str, Any], instance: str, budget: str, name: str) -> str:
    for record in found["alternatives"]:
        job = record["job"]
        if (job["instance"], job["alternative"]) == (instance, name):
            for row in record["rows"]:
                if row["budget"] == budget and row["overhead_percent"] is not None:
                    return f"{row['overhead_percent']:.3g}%"
    return "-"


def _published(point: dict[str, Any]) -> str:
    return ", ".join(f"{one['planner']} {one['overhead']:g}%" for one in point["published"]) or "-"


if __name__ == "__main__":
    print(table(), end="")
