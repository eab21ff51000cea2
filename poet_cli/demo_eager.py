"""Eager PyTorch in a process under a cap: what a plan is compared with.

    run(...)                                      starts the process, listens, says how it ended
    python -m poet_cli.demo_eager NAME STEPS THREADS [small]    is the process: the loop that everybody writes

Invariant: the process is dead when `run` returns or raises, and a kill is told from other ends by
the kernel's own count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from poet_core.errors import ReplayError

_MODULE = "poet_cli.demo_eager"


@dataclass(frozen=True, slots=True, kw_only=True)
class EagerEnd:
    """How it ended. `killed`: by the kernel, for memory; `peak_bytes`: the most that the kernel
    charged to it, None where it does not count; `seconds`: until the end, start included."""

    killed: bool
    peak_bytes: int | None
    seconds: float
    step_seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def run(
    name: str,
    *,
    small: bool,
    steps: int,
    threads: int,
    cap_bytes: int,
    said: Callable[[str], None],
) -> EagerEnd:
    """Trains a demo eagerly under the cap. `said` gets a line for each step.

    Raises ReplayError (`no_cgroup`, `eager_failed`).
    """
    import os

    from poet_runtime.memory.cgroup import memory_cgroup

    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(part for part in sys.path if part)
    environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, "-m", _MODULE, name, str(steps), str(threads)]
    started = time.monotonic()
    seconds: list[float] = []
    losses: list[float] = []
    with memory_cgroup(cap_bytes) as group:
        process = subprocess.Popen(
            group.inside(command + ["small"] * small), env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                seconds.append(found["seconds"])
                losses.append(found["loss"])
                said(
                    f"eager: step {len(losses)}/{steps}  loss {losses[-1]:.4f}  {seconds[-1]:.2f} s"
                )
            errors = process.communicate()[1]
        finally:
            process.kill()
            process.wait()
        killed = group.oom_kills() > 0
        if process.returncode != 0 and not killed:
            raise ReplayError(
                f"Eager PyTorch ended with {process.returncode}: {errors[-300:]}",
                code="eager_failed",
            )
        return EagerEnd(
            killed=killed,
            peak_bytes=group.peak_bytes(),
            seconds=time.monotonic() - started,
            step_seconds=seconds,
            losses=losses,
        )


def main(arguments: list[str]) -> None:
    """The process."""
    import torch

    from poet_cli.demo_steps import build

    name, steps, threads = arguments[0], int(arguments[1]), int(arguments[2])
    torch.set_num_threads(threads)
    demo = build(name, small="small" in arguments[3:])
    for number in range(steps):
        *inputs, target = demo.batch_of(number)
        started = time.perf_counter()
        demo.optimizer.zero_grad()
        loss: Any = demo.loss_fn(demo.model(*inputs), target)
        loss.backward()
        demo.optimizer.step()
        found = {"loss": loss.item(), "seconds": time.perf_counter() - started}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
