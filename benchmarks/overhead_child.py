"""One side of benchmarks.overhead, in a process of its own: eager PyTorch, or TrainStep.

    python -m benchmarks.overhead_child CASE eager|TrainStep

Each number on standard input asks for so many steps; the answer is a line of JSON with the seconds
of each, those of the CPU, and the losses. "empty" asks for the seconds of a step whose ops do
nothing. It goes on until the end of input. Invariant: both sides begin with the same weights, batch and random numbers.
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
from poet_runtime.replaying.call_facts import returns_one_tensor
from poet_runtime.replaying.codegen import write_source

EAGER, OURS = "eager", "TrainStep"
_SMALL = bert.BertShape(width=512, layers=4, heads=8, feed_forward=2048)
_EMPTY_STEPS = 100


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
        build=lambda: bert.step(batch_size=4, length=64, shape=_SMALL),
        steps_a_turn=1,
    ),
    "resnet": Case(
        title="ResNet-18, 8 x 224 px, SGD momentum",
        build=lambda: resnet.step(batch_size=8),
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
        if line.strip() == "empty":
            assert isinstance(step, TrainStep)
            answer: Any = {
                "ops": len(step.program.calls), "seconds": empty_seconds(step, batch)
            }  # fmt: skip
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


def empty_seconds(step: TrainStep, batch: tuple[Any, ...]) -> float:
    """What a step takes whose ops do nothing: checks, the batch's copy, the compiled source with its
    views and releases, but no kernel and no update rule. The step trains nothing afterwards."""
    compiled = step.running.compiled
    source = write_source(step.program, step.plan.schedule)
    tiny = torch.zeros(1)
    names: dict[str, Any] = dict(source.tables)
    for name in names:
        if name[0] in "fp":  # the calls of ops
            call = step.program.calls[int(name[1:])]
            several = (tiny,) * len(call.outputs)
            names[name] = _returning(tiny if returns_one_tensor(call) else several)
    names["S"] = lambda *_: torch.as_strided(tiny, (1,), (1,), 0)
    names["V"] = names["E"] = _returning(tiny)
    exec(source.text, names)  # noqa: S102 - what TrainStep itself runs, of integers and these names

    def empty(resident: dict[int, Tensor], *others: Any) -> tuple[Tensor, list[Tensor]]:
        held = [resident.get(storage, tiny) for storage in source.returned]
        loss, _ = names["step"](resident, *others)
        return loss, held

    whole = compiled._variants[False, False]
    compiled._variants[False, False] = source, empty
    try:
        taken: list[float] = []
        for _ in range(_EMPTY_STEPS):
            begin = time.thread_time()
            step(*batch)
            taken.append(time.thread_time() - begin)
    finally:
        compiled._variants[False, False] = whole
    return statistics.median(taken)


def _returning(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


if __name__ == "__main__":
    main()
