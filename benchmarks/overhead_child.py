"""One side of benchmarks.overhead, in a process of its own: eager PyTorch, or TrainStep.

    python -m benchmarks.overhead_child CASE eager|TrainStep

Each number on standard input asks for so many steps; the answer is a line of JSON with the seconds
of each, those of the CPU, and the losses. "alone" asks for what the ops of the step take one by one. It goes on until
the end of input. Invariant: both sides begin with the same weights, batch and random numbers.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from examples import bert, mlp, resnet
from examples.parts import Step
from poet_runtime import TrainStep
from poet_runtime.drafts import map_specs, specs_in
from poet_runtime.program import OpCall, Program, TensorSpec
from poet_runtime.replay import lies_as, tensor_of

EAGER, OURS = "eager", "TrainStep"
_SMALL = bert.BertShape(width=512, layers=4, heads=8, feed_forward=2048)
_ALONE_SECONDS = 0.02  # an op is repeated for about so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A step, and how many of them are timed in a turn. BERT small as Turc et al. 2019 have it."""

    title: str
    build: Callable[[], Step]
    steps_a_turn: int


CASES = {
    "mlp": Case(
        title="MLP, 3 layers of 128, batch 64, Adam",
        build=lambda: mlp.step(features=128, hidden=(128, 128), optimizer="adam"),
        steps_a_turn=300,
    ),
    "bert": Case(
        title="BERT small, 4 x 64 tokens, Adam",
        build=lambda: bert.step(batch=4, length=64, shape=_SMALL),
        steps_a_turn=1,
    ),
    "resnet": Case(
        title="ResNet-18, 8 x 224 px, SGD momentum",
        build=lambda: resnet.step(batch=8),
        steps_a_turn=1,
    ),
}


def main() -> None:
    """Answers until the end of input."""
    name, side = sys.argv[1:]
    torch.set_num_threads(1)
    model, loss_fn, optimizer, batch = CASES[name].build()
    torch.manual_seed(1)
    if side == OURS:
        step: Callable[..., Tensor] = TrainStep(model, loss_fn, optimizer, batch)
    else:

        def step(*batch: Any) -> Tensor:
            optimizer.zero_grad()
            loss = loss_fn(model(*batch[:-1]), batch[-1])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            return loss.detach()

    for line in sys.stdin:
        if line.strip() == "alone":
            assert isinstance(step, TrainStep)
            answer: Any = {"ops": len(step.program.calls), "seconds": seconds_alone(step.program)}
        else:
            answer = _run(step, batch, int(line))
        print(json.dumps(answer), flush=True)


def _run(step: Callable[..., Tensor], batch: tuple[Any, ...], count: int) -> dict[str, Any]:
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    losses: list[Tensor] = []
    for _ in range(count):
        cpu, begin = time.thread_time(), time.perf_counter()
        losses.append(step(*batch))
        seconds.append(time.perf_counter() - begin)
        cpu_seconds.append(time.thread_time() - cpu)
    shown = [float(loss).hex() for loss in losses]
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "losses": shown}


def seconds_alone(program: Program) -> float:
    """The sum over the ops of a program of the CPU seconds of each by itself, called again and again on the
    same operands: the kernel, its dispatch, and for an update its Python."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return sum(_alone(call, program) for call in program.calls)


def _alone(call: OpCall, program: Program) -> float:
    operands: dict[int, Tensor] = {}
    for spec in specs_in((call.args, call.kwargs)):
        size_bytes = program.graph.storages[spec.storage].size_bytes
        operands.setdefault(spec.storage, _filled(spec, size_bytes))

    def given(spec: TensorSpec) -> Tensor:
        base = operands[spec.storage]
        return base if lies_as(base, spec) else tensor_of(base, spec)

    function = getattr(call.function, "_op", call.function)
    args, kwargs = map_specs(given, call.args), map_specs(given, dict(call.kwargs))
    taken: list[float] = []
    while sum(taken) < _ALONE_SECONDS or len(taken) < 3:
        begin = time.thread_time()
        function(*args, **kwargs)
        taken.append(time.thread_time() - begin)
    return statistics.median(taken)


def _filled(spec: TensorSpec, size_bytes: int) -> Tensor:
    """Numbers between 1 and 2, so that none becomes a slow one by being used again and again;
    integers are zeros, valid as indices."""
    flat = torch.zeros(size_bytes // spec.dtype.itemsize, dtype=spec.dtype)
    if spec.dtype.is_floating_point:
        flat.uniform_(1, 2)
    return tensor_of(flat, spec)


if __name__ == "__main__":
    main()
