"""Small problems, each another one, that the planner works on until its time is up."""

from typing import Any

MIB = 2**20
LAYERS = 8


def request_body(number: int, *, wall_seconds: float) -> dict[str, Any]:
    """A `POST /v1/plans` body; the number makes its RAM budget, and so the request, its own."""
    return {
        "graph": training_step(LAYERS),
        "device": "raspberry-pi-4b",
        "budget": {"ram_bytes": 6 * MIB + 64 * number},
        "planner": {"wall_seconds": wall_seconds, "patience_seconds": wall_seconds},
    }


def training_step(layers: int) -> dict[str, Any]:
    """A chain forward, a loss, the chain backward, an update: 1 MiB a storage, 1 Mflop an op."""
    storages: list[dict[str, Any]] = [
        {"name": "weight", "role": "parameter", "bytes": MIB, "persistent": True},
        {"name": "x", "role": "input", "bytes": MIB},
        *({"name": f"a{i}", "role": "activation", "bytes": MIB} for i in range(layers)),
        {"name": "loss", "role": "result", "bytes": 64, "result": True},
        *({"name": f"g{i}", "role": "gradient", "bytes": MIB} for i in range(layers)),
    ]
    loss = layers + 2
    ops: list[dict[str, Any]] = [
        *({"name": f"forward{i}", "reads": [i + 1], "writes": [i + 2]} for i in range(layers)),
        {"name": "loss", "reads": [layers + 1], "writes": [loss]},
        *(
            {
                "name": f"backward{i}",
                "reads": [loss + i, layers + 1 - i],
                "writes": [loss + i + 1],
                "phase": "backward",
            }
            for i in range(layers)
        ),
        {
            "name": "update", "reads": [loss + layers], "mutates": [0], "phase": "update",
            "recomputable": False,
        },
    ]  # fmt: skip
    return {
        "schema": "poet.graph/1",
        "name": "chaos",
        "storages": [{"id": index} | item for index, item in enumerate(storages)],
        "ops": [
            {"id": index, "kind": "test", "phase": "forward", "flops": 10**6} | item
            for index, item in enumerate(ops)
        ],
    }
