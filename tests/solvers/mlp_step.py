"""A whole training step of an MLP with Adam as a graph, for tests: no torch needed.

Forward (addmm, relu), loss, backward, and an in-place Adam update of each weight and bias as soon as
its gradient is complete and the weight is no longer read.
"""

from __future__ import annotations

from dataclasses import replace

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Budget, Problem

FLOAT_BYTES = 4


class _Drawing:
    def __init__(self) -> None:
        self.storages: list[Storage] = []
        self.ops: list[Op] = []

    def storage(self, name: str, elements: int, role: Role) -> int:
        persistent = role in (Role.PARAMETER, Role.OPTIMIZER_STATE)
        self.storages.append(
            Storage(
                id=len(self.storages),
                name=name,
                size_bytes=elements * FLOAT_BYTES,
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
        flops: int = 0,
    ) -> None:
        self.ops.append(
            Op(
                id=len(self.ops),
                name=name,
                kind=name.split(":", maxsplit=1)[0],
                phase=phase,
                reads=reads,
                writes=writes,
                mutates=mutates,
                flops=flops,
            )
        )


def mlp_adam_step(
    layers: tuple[int, ...] = (784, 1000, 1000, 1000, 10), batch: int = 200
) -> TrainingGraph:
    """The graph of one step of an MLP with these layer sizes."""
    draw = _Drawing()
    depth = len(layers) - 1
    images = draw.storage("images", batch * layers[0], Role.INPUT)
    labels = draw.storage("labels", batch * 2, Role.INPUT)
    state: dict[str, tuple[int, int, int]] = {}
    for layer in range(depth):
        for kind, elements in (("w", layers[layer] * layers[layer + 1]), ("b", layers[layer + 1])):
            state[f"{kind}{layer}"] = (
                draw.storage(f"{kind}{layer}", elements, Role.PARAMETER),
                draw.storage(f"{kind}{layer}.m", elements, Role.OPTIMIZER_STATE),
                draw.storage(f"{kind}{layer}.v", elements, Role.OPTIMIZER_STATE),
            )
    inputs = [images]
    forward = Phase.FORWARD
    before = images
    for layer in range(depth):
        size = batch * layers[layer + 1]
        before = draw.storage(f"linear{layer}", size, Role.ACTIVATION)
        reads = (inputs[-1], state[f"w{layer}"][0], state[f"b{layer}"][0])
        draw.op(f"addmm:{layer}", forward, reads, (before,), flops=2 * size * layers[layer])
        if layer < depth - 1:
            after = draw.storage(f"relu{layer}", size, Role.ACTIVATION)
            draw.op(f"relu:{layer}", forward, (before,), (after,), flops=size)
            inputs.append(after)
    logits = before
    log_probabilities = draw.storage("log_softmax", batch * layers[-1], Role.ACTIVATION)
    draw.op("log_softmax", forward, (logits,), (log_probabilities,), flops=5 * batch * layers[-1])
    loss = draw.storage("loss", 1, Role.RESULT)
    draw.op("nll_loss", forward, (log_probabilities, labels), (loss,), flops=batch)
    gradient = draw.storage("grad_logits", batch * layers[-1], Role.GRADIENT)
    draw.op(
        "loss_backward", Phase.BACKWARD, (log_probabilities, labels), (gradient,),
        flops=5 * batch * layers[-1],
    )  # fmt: skip
    for layer in reversed(range(depth)):
        gradient = _backward(draw, layers, batch, layer, inputs[layer], state, gradient)
    return TrainingGraph(storages=tuple(draw.storages), ops=tuple(draw.ops), name="mlp-adam")


def _backward(
    draw: _Drawing,
    layers: tuple[int, ...],
    batch: int,
    layer: int,
    layer_input: int,
    state: dict[str, tuple[int, int, int]],
    gradient: int,
) -> int:
    """Gradients and updates of one layer; returns the gradient of its input."""
    backward, wide, narrow = Phase.BACKWARD, layers[layer + 1], layers[layer]
    work = 2 * batch * wide * narrow
    weight_gradient = draw.storage(f"grad_w{layer}", wide * narrow, Role.GRADIENT)
    draw.op(f"mm_weight:{layer}", backward, (gradient, layer_input), (weight_gradient,), flops=work)
    bias_gradient = draw.storage(f"grad_b{layer}", wide, Role.GRADIENT)
    draw.op(f"sum:{layer}", backward, (gradient,), (bias_gradient,), flops=batch * wide)
    below = gradient
    if layer:
        below_relu = draw.storage(f"grad_relu{layer - 1}", batch * narrow, Role.GRADIENT)
        reads = (gradient, state[f"w{layer}"][0])
        draw.op(f"mm_input:{layer}", backward, reads, (below_relu,), flops=work)
        below = draw.storage(f"grad_linear{layer - 1}", batch * narrow, Role.GRADIENT)
        reads = (below_relu, layer_input)
        draw.op(f"threshold:{layer}", backward, reads, (below,), flops=batch * narrow)
    for kind, grad, elements in (("w", weight_gradient, wide * narrow), ("b", bias_gradient, wide)):
        draw.op(
            f"adam:{kind}{layer}", Phase.UPDATE, (grad,), mutates=state[f"{kind}{layer}"],
            flops=12 * elements,
        )  # fmt: skip
    return below


def mlp_problem(graph: TrainingGraph, share: float, device: str = "raspberry-pi-4b") -> Problem:
    """A problem at a share of keep-everything's peak, or at the floor times 1.05 for share 0."""
    profile = load_device(device)
    costs = costs_on(graph, profile)
    budget = Budget(ram_bytes=1, alignment_bytes=profile.alignment_bytes, overlap=profile.overlap)
    peak = judge_keep_everything(graph, costs, alignment_bytes=profile.alignment_bytes).peak_bytes
    floor = ram_floor(graph, budget).floor_bytes
    ram_bytes = int(share * peak) if share else int(1.05 * floor)
    return Problem(
        graph=graph, costs=costs, budget=replace(budget, ram_bytes=ram_bytes), device_name=device
    )
