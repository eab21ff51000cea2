"""A process that trains a step of `benchmarks.replay` under one method, a step at a time.

    python -m benchmarks.replay_worker MODEL METHOD [--small]

Each line that it reads asks for something, each line that it writes answers, in JSON:

    {"do": "step"}                -> loss (hexadecimal), seconds, whether it drew random numbers
    {"do": "save", "path"}        the gradients of the step just made, for others to compare
    {"do": "compare", "path"}     -> error, against saved ones
    {"do": "fingerprint"}         -> fingerprint of the whole state

A gradient is read where the optimizer left it: its first moment after the first step is the gradient
(with SGD's weight decay) times a constant.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.replay_methods import METHODS, Trainer, compiler
from benchmarks.replay_models import SEED, SUBJECTS
from poet_runtime.fingerprint import fingerprint

_MOMENTS = ("exp_avg", "momentum_buffer")
# Below this share of the whole gradient's norm a parameter's is rounding (attention's key biases:
# the softmax does not depend on them).
_NOISE = 1e-6


def first_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's first moment of each parameter."""
    found = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        key = next(key for key in _MOMENTS if key in state)
        found[name] = state[key]
    return found


def gradient_error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative error of any parameter's gradient, in the Euclidean norm; 0 where every
    bit is the same."""
    if all(torch.equal(found[name], expected[name]) for name in expected):
        return 0.0
    norms = {name: float(value.double().norm()) for name, value in expected.items()}
    least = _NOISE * sum(norm**2 for norm in norms.values()) ** 0.5
    return max(
        float((found[name] - value).double().norm()) / norms[name]
        for name, value in expected.items()
        if norms[name] > least
    )


def main(arguments: list[str]) -> int:
    """Answers until nobody asks any more."""
    subject, method = SUBJECTS[arguments[0]], METHODS[arguments[1]]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # output is for answers: what anyone prints goes to the error output
    torch.set_num_threads(1)
    small = "--small" in arguments
    trainer = Trainer(subject.build(small=small), subject.blocks, method, compiler(small=small))
    torch.manual_seed(SEED)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(trainer, json.loads(line))) + "\n")
    trainer.close()
    return 0


def _answer(trainer: Trainer, message: Mapping[str, Any]) -> dict[str, Any]:
    if message["do"] == "step":
        before, begin = torch.get_rng_state(), time.perf_counter()
        loss = trainer()
        seconds = time.perf_counter() - begin
        random = not torch.equal(before, torch.get_rng_state())
        return {"loss": loss.hex(), "seconds": seconds, "random": random}
    optimizer = trainer.optimizer()
    if message["do"] == "save":
        torch.save(first_moments(trainer.model, optimizer), Path(message["path"]))
        return {}
    if message["do"] == "compare":
        expected = torch.load(message["path"], mmap=True)
        return {"error": gradient_error(first_moments(trainer.model, optimizer), expected)}
    return {"fingerprint": fingerprint(trainer.model, optimizer)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
