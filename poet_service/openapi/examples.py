"""Requests that work as they are: a test posts each of them."""

from __future__ import annotations

from typing import Any


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


GRAPH = _chain(layers=3, size_bytes=4096)

EXAMPLES: dict[str, dict[str, Any]] = {
    "named_device": {
        "summary": "A small chain on a microcontroller, with a time limit",
        "value": {
            "graph": GRAPH,
            "device": "mkr1000",
            "budget": {"ram_bytes": 16400, "time_ratio": 1.5},
            "objective": "energy",
            "planner": {"patience_seconds": 2},
        },
    },
    "own_profile": {
        "summary": "Your own device, no paging, HiGHS",
        "value": {
            "graph": GRAPH,
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
            "planner": {"backend": "highs", "wall_seconds": 30, "patience_seconds": 2},
        },
    },
}

FRONTIER_EXAMPLES: dict[str, dict[str, Any]] = {
    "named_sizes": {
        "summary": "The same chain under three RAM budgets",
        "value": {
            "graph": GRAPH,
            "device": "mkr1000",
            "ram_bytes": [32768, 20480, 16400],
            "planner": {"wall_seconds": 20, "patience_seconds": 2},
        },
    },
    "evenly_spaced": {
        "summary": "Four budgets from keep-everything's peak down to the floor",
        "value": {
            "graph": GRAPH,
            "device": "mkr1000",
            "budget": {"time_ratio": 2},
            "points": 4,
            "planner": {"wall_seconds": 20, "patience_seconds": 2},
        },
    },
}
