"""Eager PyTorch on one of `benchmarks.caps`'s cases, in this process; prints a JSON line a step.

    python -m benchmarks.caps_eager CASE STEPS

The parent puts it into a memory group. The last line holds the state's fingerprint.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from benchmarks.caps_cases import CASES, SEED
from poet_runtime.fingerprint import fingerprint


def main(arguments: list[str]) -> int:
    """Train as a user would, and say after each step what it took."""
    case, steps = CASES[arguments[0]], int(arguments[1])
    torch.set_num_threads(1)
    model, loss_fn, optimizer, (*inputs, target) = case.build()
    torch.manual_seed(SEED)
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_fn(model(*inputs), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        taken = time.perf_counter() - begin
        print(json.dumps({"loss": float(loss.detach()).hex(), "seconds": taken}), flush=True)
        del loss
    optimizer.zero_grad(set_to_none=True)
    print(json.dumps({"fingerprint": fingerprint(model, optimizer)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
