"""A whole training step of a GPT with Adam as a graph of any depth, for tests: no torch needed.

Some 64 ops a layer, in the order of a traced step: pre-norm blocks (norm, query, key, value, scores,
softmax, mix, project, add; norm, widen, gelu, narrow, add), a head and a loss; backward in reverse;
each Adam update in place as soon as its gradient is there and the old version is read no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from poet_core.baseline import judge_keep_everything
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Problem
from poet_core.problem import make_problem

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class GptShape:
    """Sizes of the network and of its batch."""

    layers: int = 2
    width: int = 64
    length: int = 64
    batch: int = 4
    heads: int = 4
    vocabulary: int = 256


def gpt_adam_step(shape: GptShape) -> TrainingGraph:
    """The graph of one step."""
    return _Writer(shape).graph()


def gpt_problem(layers: int, share: float = 0.5) -> Problem:
    """One step of a GPT of that depth on a Jetson TX2 in a share of its keep-everything peak."""
    graph = gpt_adam_step(GptShape(layers=layers))
    device = load_device("jetson-tx2")
    peak_bytes = judge_keep_everything(
        graph,
        costs_on(graph, device),
        reserved_bytes=device.reserved_bytes,
        alignment_bytes=device.alignment_bytes,
    ).peak_bytes
    return make_problem(graph, device, ram_bytes=int(share * peak_bytes))


class _Writer:
    """`tape`: what each forward op has to do in the backward pass, from the gradient of its output
    to that of its input."""

    def __init__(self, shape: GptShape) -> None:
        self._shape = shape
        self._tokens = shape.batch * shape.length
        self._storages: list[Storage] = []
        self._ops: list[Op] = []
        self._moments: dict[int, tuple[int, int]] = {}
        self._phase = Phase.FORWARD
        self._tape: list[Callable[[int], int]] = []
        self._around: list[int] = []

    def graph(self) -> TrainingGraph:
        shape, width = self._shape, self._shape.width
        tokens = self._storage("tokens", 2 * self._tokens, Role.INPUT)
        targets = self._storage("targets", 2 * self._tokens, Role.INPUT)
        words = self._parameter("words", shape.vocabulary * width)
        states = self._op("embedding", (tokens, words), self._tokens * width)
        for layer in range(shape.layers):
            states = self._block(f"layers.{layer}", states)
        states = self._norm("norm", states)
        logits = self._linear("head", states, width, shape.vocabulary)
        chances = self._op("log_softmax", (logits,), self._tokens * shape.vocabulary)
        self._op("nll_loss", (chances, targets), 1, Role.RESULT)
        self._phase = Phase.BACKWARD
        gradient = self._op("loss_backward", (chances, targets), self._tokens * shape.vocabulary)
        for step in reversed(self._tape):
            gradient = step(gradient)
        found = self._op("embedding_backward", (gradient, tokens), shape.vocabulary * width)
        self._update(words, found)
        return TrainingGraph(
            storages=tuple(self._storages), ops=tuple(self._ops), name=f"gpt-{shape.layers}"
        )

    def _block(self, name: str, states: int) -> int:
        width, tokens = self._shape.width, self._tokens
        self._residual_begins()
        mixed = self._attention(f"{name}.attention", self._norm(f"{name}.norm1", states))
        states = self._residual(states, self._linear(f"{name}.project", mixed, width, width))
        self._residual_begins()
        wide = self._linear(f"{name}.widen", self._norm(f"{name}.norm2", states), width, 4 * width)
        active = self._op("gelu", (wide,), 4 * tokens * width)
        self._tape.append(lambda g: self._op("gelu_backward", (g, wide), 4 * tokens * width))
        return self._residual(states, self._linear(f"{name}.narrow", active, 4 * width, width))

    def _residual_begins(self) -> None:
        """Backward: the gradient of the branch joins the one that went around it."""
        self._tape.append(
            lambda g: self._op("add", (g, self._around.pop()), self._tokens * self._shape.width)
        )

    def _residual(self, states: int, branch: int) -> int:
        def keep(gradient: int) -> int:
            self._around.append(gradient)
            return gradient

        self._tape.append(keep)
        return self._op("add", (states, branch), self._tokens * self._shape.width)

    def _norm(self, name: str, states: int) -> int:
        size, width = self._tokens * self._shape.width, self._shape.width
        scale, shift = (
            self._parameter(f"{name}.weight", width),
            self._parameter(f"{name}.bias", width),
        )
        statistics = self._storage(f"{name}.statistics", 2 * self._tokens, Role.ACTIVATION)
        normed = self._op("layer_norm", (states, scale, shift), size, also=statistics)

        def backward(gradient: int) -> int:
            below = self._op("norm_backward", (gradient, states, statistics, scale), size)
            for parameter in (scale, shift):
                found = self._op("norm_sum", (gradient, states, statistics), width)
                self._update(parameter, found)
            return below

        self._tape.append(backward)
        return normed

    def _linear(self, name: str, states: int, narrow: int, wide: int) -> int:
        weight = self._parameter(f"{name}.weight", narrow * wide)
        bias = self._parameter(f"{name}.bias", wide)
        work = 2 * self._tokens * narrow * wide
        made = self._op("addmm", (states, weight, bias), self._tokens * wide, flops=work)

        def backward(gradient: int) -> int:
            below = self._op("mm_input", (gradient, weight), self._tokens * narrow, flops=work)
            self._update(
                weight, self._op("mm_weight", (gradient, states), narrow * wide, flops=work)
            )
            self._update(bias, self._op("sum", (gradient,), wide))
            return below

        self._tape.append(backward)
        return made

    def _attention(self, name: str, states: int) -> int:
        """Query, key and value are linear layers; their gradients add up."""
        shape, size = self._shape, self._tokens * self._shape.width
        scores_size = shape.batch * shape.heads * shape.length**2
        work = 2 * self._tokens * shape.length * shape.width
        outer, self._tape = self._tape, []
        query, key, value = (
            self._linear(f"{name}.{part}", states, shape.width, shape.width)
            for part in ("query", "key", "value")
        )
        parts, self._tape = self._tape, outer
        scores = self._op("scores", (query, key), scores_size, flops=work)
        weights = self._op("softmax", (scores,), scores_size)
        mixed = self._op("mix", (weights, value), size, flops=work)

        def backward(gradient: int) -> int:
            of_value = self._op("mix_value", (gradient, weights), size, flops=work)
            of_weights = self._op("mix_weights", (gradient, value), scores_size, flops=work)
            of_scores = self._op("softmax_backward", (of_weights, weights), scores_size)
            of_query = self._op("scores_query", (of_scores, key), size, flops=work)
            of_key = self._op("scores_key", (of_scores, query), size, flops=work)
            below = parts[0](of_query)
            for part, of_part in zip(parts[1:], (of_key, of_value), strict=True):
                below = self._op("add", (below, part(of_part)), size)
            return below

        self._tape.append(backward)
        return mixed

    def _parameter(self, name: str, elements: int) -> int:
        parameter = self._storage(name, elements, Role.PARAMETER)
        self._moments[parameter] = (
            self._storage(f"{name}.exp_avg", elements, Role.OPTIMIZER_STATE),
            self._storage(f"{name}.exp_avg_sq", elements, Role.OPTIMIZER_STATE),
        )
        return parameter

    def _update(self, parameter: int, gradient: int) -> None:
        mutates = (parameter, *self._moments[parameter])
        self._add("adam", Phase.UPDATE, (gradient,), (), mutates, 0)

    def _storage(self, name: str, elements: int, role: Role) -> int:
        self._storages.append(
            Storage(
                id=len(self._storages),
                name=name,
                size_bytes=elements * _FLOAT_BYTES,
                role=role,
                persistent=role in (Role.PARAMETER, Role.OPTIMIZER_STATE),
                result=role is Role.RESULT,
            )
        )
        return len(self._storages) - 1

    def _op(
        self,
        kind: str,
        reads: tuple[int, ...],
        elements: int,
        role: Role = Role.ACTIVATION,
        *,
        flops: int = 0,
        also: int | None = None,
    ) -> int:
        """An op with one output, and perhaps one more."""
        made = self._storage(f"{kind}.{len(self._ops)}", elements, role)
        self._add(
            kind,
            self._phase,
            reads,
            (made,) if also is None else (made, also),
            (),
            flops or elements,
        )
        return made

    def _add(
        self,
        kind: str,
        phase: Phase,
        reads: tuple[int, ...],
        writes: tuple[int, ...],
        mutates: tuple[int, ...],
        flops: int,
    ) -> None:
        self._ops.append(
            Op(
                id=len(self._ops),
                name=f"{kind}.{len(self._ops)}",
                kind=kind,
                phase=phase,
                reads=reads,
                writes=writes,
                mutates=mutates,
                flops=flops,
            )
        )
