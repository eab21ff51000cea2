"""What the service is asked in its benchmark: steps of made-up networks, as large as they are told.

    small    a chain of a few layers, every one another problem; POET's MILP alone takes it a moment
    large    a step of as many ops, storages and bytes as BERT-base's, or a multiple of it

Nothing is random: the same number gives the same problem.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan_request import PlanRequest, request_to_document

_KIB = 2**10
_MIB = 2**20
_GIB = 2**30
_SMALL_DEVICE = "raspberry-pi-4b"
_LARGE_DEVICE = "jetson-tx2"
_SMALL_WALL_SECONDS = 20.0
# Of BERT-base's step (12 layers, Adam): ops of a layer forward; each with a weight has an update.
_LAYER_OPS = 31
_WEIGHTS_A_LAYER = 17
BERT_LAYERS = 12


@dataclass(slots=True)
class _Step:
    """A training step under construction."""

    storages: list[Storage] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)

    def storage(self, name: str, size_bytes: int, role: Role, *, persistent: bool = False) -> int:
        """A new storage's id."""
        self.storages.append(
            Storage(
                id=len(self.storages),
                name=name,
                size_bytes=size_bytes,
                role=role,
                persistent=persistent,
                result=role is Role.RESULT,
            )
        )
        return len(self.storages) - 1

    def op(
        self,
        name: str,
        phase: Phase,
        reads: tuple[int, ...],
        writes: tuple[int, ...] = (),
        mutates: tuple[int, ...] = (),
        flops: int = 10_000_000,
    ) -> None:
        """A new op; updates are run once."""
        touched = sum(self.storages[index].size_bytes for index in (*reads, *writes, *mutates))
        self.ops.append(
            Op(
                id=len(self.ops),
                name=name,
                kind=f"aten.{name.rsplit('.', 1)[-1]}.default",
                module=name.rpartition(".")[0],
                phase=phase,
                reads=reads,
                writes=writes,
                mutates=mutates,
                flops=flops,
                bytes_moved=touched,
                recomputable=not mutates,
            )
        )


def small_graph(number: int) -> TrainingGraph:
    """A chain of 3 to 10 layers; its sizes tell every number from every other."""
    step, layers = _Step(), 3 + number % 8
    size_bytes = 64 * _KIB + 64 * number
    values = [step.storage("input", size_bytes, Role.INPUT)]
    weights = []
    for layer in range(layers):
        weights.append(
            step.storage(f"layers.{layer}.weight", 4 * _KIB, Role.PARAMETER, persistent=True)
        )
        wider = size_bytes * (1 + layer % 3)
        values.append(step.storage(f"layers.{layer}.value", wider, Role.ACTIVATION))
        step.op(f"layers.{layer}.linear", Phase.FORWARD, (values[-2], weights[-1]), (values[-1],))
    gradient = step.storage("loss", 4, Role.RESULT)
    step.op("loss", Phase.FORWARD, (values[-1],), (gradient,))
    for layer in reversed(range(layers)):
        reads = (gradient, values[layer + 1], values[layer])
        gradient = step.storage(f"layers.{layer}.gradient", size_bytes, Role.GRADIENT)
        step.op(f"layers.{layer}.linear_backward", Phase.BACKWARD, reads, (gradient,))
        step.op(f"layers.{layer}.update", Phase.UPDATE, (gradient,), (), (weights[layer],))
    return TrainingGraph(storages=tuple(step.storages), ops=tuple(step.ops), name=f"small {number}")


def small_request(number: int) -> PlanRequest:
    """The small graph of that number, with less RAM than keeping everything takes."""
    graph = small_graph(number)
    problem = PlanRequest(graph=graph, device=_SMALL_DEVICE, ram_bytes=_GIB).stated_problem()
    floor_bytes = ram_floor(graph, problem.budget).floor_bytes
    peak_bytes = judge_keep_everything(graph, problem.costs).peak_bytes
    return PlanRequest(
        graph=graph,
        device=_SMALL_DEVICE,
        ram_bytes=floor_bytes + 2 * (peak_bytes - floor_bytes) // 3,
        planner="poet-milp",
        wall_seconds=_SMALL_WALL_SECONDS,
    )


def large_graph(layers: int = BERT_LAYERS) -> TrainingGraph:
    """A transformer's step in ops, storages and references: forward, backward, an update of Adam
    for each weight."""
    step = _Step()
    weights: list[tuple[int, int, int, str]] = []
    value = step.storage("tokens", 8 * _KIB, Role.INPUT)
    before: list[tuple[int, int, str]] = []
    for layer in range(layers):
        for index in range(_LAYER_OPS):
            name = f"encoder.layers.{layer}.block{index % 4}.step{index}"
            after = step.storage(f"{name}.value", 3 * _MIB, Role.ACTIVATION)
            reads: tuple[int, ...] = (value,)
            if index < _WEIGHTS_A_LAYER:
                states = tuple(
                    step.storage(f"{name}.{what}", 2 * _MIB, role, persistent=True)
                    for what, role in (
                        ("weight", Role.PARAMETER),
                        ("first_moment", Role.OPTIMIZER_STATE),
                        ("second_moment", Role.OPTIMIZER_STATE),
                    )
                )
                weights.append((states[0], states[1], states[2], name))
                reads = (value, states[0])
            step.op(f"{name}.mm", Phase.FORWARD, reads, (after,))
            before.append((value, after, name))
            value = after
    gradient = step.storage("loss", 4, Role.RESULT)
    step.op("loss", Phase.FORWARD, (value,), (gradient,))
    of_name = {name: states for *states, name in weights}
    for earlier, later, name in reversed(before):
        reads = (gradient, earlier, later)
        gradient = step.storage(f"{name}.gradient", 3 * _MIB, Role.GRADIENT)
        step.op(f"{name}.mm_backward", Phase.BACKWARD, reads, (gradient,))
        if name in of_name:
            step.op(f"{name}.adam", Phase.UPDATE, (gradient,), (), tuple(of_name[name]))
    return TrainingGraph(
        storages=tuple(step.storages), ops=tuple(step.ops), name=f"{layers} layers"
    )


def large_request(layers: int = BERT_LAYERS) -> PlanRequest:
    """The large graph with four fifths of what keeping everything takes."""
    graph = large_graph(layers)
    problem = PlanRequest(graph=graph, device=_LARGE_DEVICE, ram_bytes=_GIB).stated_problem()
    peak_bytes = judge_keep_everything(graph, problem.costs).peak_bytes
    return PlanRequest(graph=graph, device=_LARGE_DEVICE, ram_bytes=4 * peak_bytes // 5)


def body_of(request: PlanRequest) -> bytes:
    """The body of POST /v1/plans."""
    return json.dumps(request_to_document(request), separators=(",", ":")).encode()
