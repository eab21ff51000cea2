"""The published planning problems: instance files in, `Problem`s out, one a cost model and budget.

    instances/aten/*.json       traced training steps, three cost models: a72, m4 (paging), flops (none)
    instances/moccasin/*.json   graphs of the rematerialization papers: bytes and costs, no paging

Parameters of the ATen graphs are resident and not counted, and parameter gradients go when they are
made; activations and other gradients count. The files are read from POET_INSTANCES (default
../shared/instances); they are not part of this repository.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Problem

REPOSITORY = Path(__file__).resolve().parent.parent

FLOOR_PLUS = "floor+5%"

_ATEN = {
    "ResNet-18": "resnet18-b8-224",
    "VGG-16": "vgg16-b8-224",
    "BERT-base": "bert-base-b4-512",
}
_MOCCASIN = {
    "RL1": "RL1",
    "RL3": "RL3",
    "CM1": "CM1-fcn8-vgg-b32",
    "MobileNet": "mobilenet-b512",
    "vgg-unet": "vgg-unet-b32",
    "VGG-16 b256": "vgg16-b256",
}
COST_MODELS = ("a72", "m4", "flops")


@dataclass(frozen=True, slots=True)
class Instance:
    """A graph with its costs, before a budget. `paging` says whether its plans may page."""

    name: str
    graph: TrainingGraph
    costs: Costs
    paging: bool

    @property
    def peak_bytes(self) -> int:
        """The peak of keep-everything: what budgets are a share of."""
        return judge_keep_everything(self.graph, self.costs).peak_bytes

    @property
    def floor_bytes(self) -> int:
        """The RAM that the largest op needs whatever the plan."""
        return ram_floor(self.graph, Budget(ram_bytes=1), paging=self.paging).floor_bytes

    def ram_bytes(self, budget: str) -> int:
        """`50` (percent of the base peak) or `floor+5%`, in bytes."""
        if budget == FLOOR_PLUS:
            return math.ceil(self.floor_bytes * 1.05)
        return int(self.peak_bytes * float(budget) / 100)

    def problem(self, budget: str, *, reorder: bool = True) -> Problem:
        """The problem at a budget; energy is the objective and RAM the only limit."""
        return Problem(
            graph=self.graph,
            costs=self.costs,
            budget=Budget(ram_bytes=self.ram_bytes(budget)),
            allowed=Allowed(page=self.paging, reorder=reorder),
        )


def instances_folder() -> Path:
    """Where the instance files are, or would be."""
    return Path(os.environ.get("POET_INSTANCES") or REPOSITORY.parent / "shared" / "instances")


def instance_names() -> tuple[str, ...]:
    """Every name that `load_instance` knows."""
    return (*_MOCCASIN, *(f"{network}, {model}" for network in _ATEN for model in COST_MODELS))


@cache
def load_instance(name: str) -> Instance | None:
    """An instance by its name (`RL1`, `ResNet-18, a72`); None where its file is not here."""
    network, _, model = name.partition(", ")
    aten = network in _ATEN and model in COST_MODELS
    file = f"aten/{_ATEN[network]}" if aten else f"moccasin/{_MOCCASIN[name]}"
    path = instances_folder() / f"{file}.json"
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    if aten:
        graph = _aten_graph(network, document)
        return Instance(name, graph, _aten_costs(graph, model), paging=model != "flops")
    graph, costs = _node_graph(name, document)
    return Instance(name, graph, costs, paging=False)


def _aten_graph(name: str, document: dict[str, Any]) -> TrainingGraph:
    storages = tuple(
        Storage(
            id=number,
            name=storage["name"],
            size_bytes=storage["bytes"] if storage["prod"] >= 0 else 0,
            role=Role.ACTIVATION if storage["prod"] >= 0 else Role.PARAMETER,
            persistent=storage["prod"] < 0,
        )
        for number, storage in enumerate(document["stor"])
    )
    ops = tuple(
        Op(
            id=number,
            name=op["name"],
            kind=op["target"],
            phase=Phase.FORWARD if number <= document["loss"] else Phase.BACKWARD,
            reads=tuple(dict.fromkeys(op["ins"])),
            writes=tuple(op["outs"]),
            flops=op["flops"],
        )
        for number, op in enumerate(document["ops"])
    )
    return TrainingGraph(name=name, storages=storages, ops=ops)


def _aten_costs(graph: TrainingGraph, model: str) -> Costs:
    """a72: a Raspberry Pi with an SD card. m4: a Cortex-M4 with flash on a slow bus. flops: FLOPs."""
    flops = [op.flops for op in graph.ops]
    sizes = [storage.size_bytes for storage in graph.storages]
    nothing = (0.0,) * len(sizes)
    if model == "a72":
        compute = [count / 40.12e6 for count in flops]
        page_in = [size / 45.5e6 * 0.15 for size in sizes]
        page_out = [size / 24.5e6 * 0.15 for size in sizes]
    elif model == "m4":
        compute = [count / 5.8e8 for count in flops]
        page_in = [0.109e-3 * 0.33 + size * 71.48e-9 if size else 0.0 for size in sizes]
        page_out = [0.113e-3 * 0.33 + size * 74.32e-9 if size else 0.0 for size in sizes]
    else:
        compute, page_in, page_out = [float(count) for count in flops], list(nothing), list(nothing)
    return Costs(
        op_seconds=(0.0,) * len(flops),
        op_joules=tuple(compute),
        page_in_seconds=nothing,
        page_in_joules=tuple(page_in),
        page_out_seconds=nothing,
        page_out_joules=tuple(page_out),
    )


def _node_graph(name: str, document: dict[str, Any]) -> tuple[TrainingGraph, Costs]:
    """One storage a node, written by it and read by its successors; the last node's is the result."""
    nodes = document["nodes"]
    random_layered = "out_cost" in nodes[0]
    names = [node["name"] if random_layered else node["id"] for node in nodes]
    ends = ("0", "1") if random_layered else ("source", "target")
    edges = [(link[ends[0]], link[ends[1]]) for link in document["links"]]
    order = document["graph"]["order"] if random_layered else _topological(names, edges)
    place = {node: position for position, node in enumerate(order)}
    of_name = dict(zip(names, nodes, strict=True))
    reads: list[list[int]] = [[] for _ in order]
    for source, target in edges:
        reads[place[target]].append(place[source])
    bytes_key, cost_key = ("out_cost", "duration") if random_layered else ("cost_ram", "cost_cpu")
    storages = tuple(
        Storage(
            id=position,
            name=str(of_name[node]["name"]),
            size_bytes=of_name[node][bytes_key],
            role=Role.ACTIVATION,
        )
        for position, node in enumerate(order)
    )
    ops = tuple(
        Op(
            id=position,
            name=str(of_name[node]["name"]),
            kind="node",
            phase=Phase.BACKWARD if of_name[node].get("backward") else Phase.FORWARD,
            reads=tuple(sorted(set(reads[position]))),
            writes=(position,),
        )
        for position, node in enumerate(order)
    )
    nothing = (0.0,) * len(storages)
    costs = Costs(
        op_seconds=(0.0,) * len(ops),
        op_joules=tuple(float(of_name[node][cost_key]) for node in order),
        page_in_seconds=nothing,
        page_in_joules=nothing,
        page_out_seconds=nothing,
        page_out_joules=nothing,
    )
    return TrainingGraph(name=name, storages=storages, ops=ops), costs


def _topological(names: list[int], edges: list[tuple[int, int]]) -> list[int]:
    """The topological order that takes the lowest ready node first."""
    import heapq

    waits = dict.fromkeys(names, 0)
    after: dict[int, list[int]] = {name: [] for name in names}
    for source, target in edges:
        waits[target] += 1
        after[source].append(target)
    ready = [name for name, count in waits.items() if not count]
    order: list[int] = []
    while ready:
        order.append(heapq.heappop(ready))
        for target in after[order[-1]]:
            waits[target] -= 1
            if not waits[target]:
                heapq.heappush(ready, target)
    return order
