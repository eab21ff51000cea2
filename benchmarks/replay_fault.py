"""What a memory budget does to the gradients of a model with dropout (torch 2.13), on a small BERT.

    python -m benchmarks.replay_fault [--quick]        prints the rows in JSON

One forward and backward pass for each dropout rate, compiler, source of random numbers and budget.
Without dropout the only error is rounding. With it, and with eager's random numbers, a budget below 1
leaves the loss as it is, to the bit, and gives other gradients: dropout is run again in the backward
pass with new random numbers. Inductor's own random numbers make its loss another sample, so there
the gradients are to be compared with those of its own budget of 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.replay_methods import compiled, compiler
from benchmarks.replay_models import SEED
from benchmarks.replay_worker import gradient_error
from examples import bert
from examples.parts import Batch

BUDGETS = (1.0, 0.5, 0.2, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One compiled pass. Errors are the largest relative ones of any parameter; `error_own` is
    against the same with a budget of 1."""

    dropout: float
    backend: str
    own_random_numbers: bool
    budget: float
    same_loss: bool
    error: float
    same_own_loss: bool
    error_own: float


def measure_fault(*, quick: bool) -> list[Fault]:
    """The rows, measured in a process of its own; `quick`: aot_eager alone."""
    command = [sys.executable, "-m", "benchmarks.replay_fault", *(["--quick"] if quick else [])]
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Fault(**row) for row in json.loads(ended.stdout)]


def _rows(*, quick: bool) -> Iterator[Fault]:
    kinds = [("aot_eager", False)]
    if compiler() == "inductor" and not quick:
        kinds += [("inductor", False), ("inductor", True)]
    for dropout in (0.1, 0.0):
        eager_loss, eager = _gradients(dropout)
        for backend, own in kinds:
            first_loss, first = "", dict[str, Tensor]()
            for budget in BUDGETS:
                loss, found = _gradients(dropout, backend, own=own, budget=budget)
                if not first:
                    first_loss, first = loss, found
                yield Fault(
                    dropout=dropout,
                    backend=backend,
                    own_random_numbers=own,
                    budget=budget,
                    same_loss=loss == eager_loss,
                    error=gradient_error(found, eager),
                    same_own_loss=loss == first_loss,
                    error_own=gradient_error(found, first),
                )


def _gradients(
    dropout: float, backend: str = "", *, own: bool = False, budget: float = 1.0
) -> tuple[str, dict[str, Tensor]]:
    shape = bert.BertShape(
        vocabulary=500, positions=32, width=32, layers=2, heads=4, feed_forward=64, dropout=dropout
    )
    model, loss_fn, _, batch = bert.step(batch_size=4, length=16, shape=shape)

    def whole(batch: Batch) -> Tensor:
        return loss_fn(model(*batch[:-1]), batch[-1])

    loss_of: Callable[[Batch], Tensor] = whole
    if backend:
        import torch._inductor.config as inductor_config

        torch._dynamo.reset()
        inductor_config.fallback_random = not own
        loss_of = compiled(whole, budget, backend)
    torch.manual_seed(SEED)
    loss = loss_of(batch)
    torch.autograd.backward(loss)
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return float(loss.detach()).hex(), gradients


def main(arguments: list[str]) -> int:
    """Measure and print."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    rows = [asdict(row) for row in _rows(quick="--quick" in arguments)]
    answers.write(json.dumps(rows) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
