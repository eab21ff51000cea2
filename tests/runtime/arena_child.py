"""A process with and without an arena: trains, and prints every bit that it leaves, as JSON.

Run as `python -m tests.runtime.arena_child`, in the repository, by test_arena_interposed.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
import threading
from dataclasses import asdict

import numpy as np
import torch

from poet_runtime import TrainStep
from poet_runtime.memory.arena import Arena, arena_peak
from poet_runtime.memory.measured_peak import measure_step_in_arena, measure_step_peak
from tests.runtime.step_parts import batches, convolution, norm_and_dropout, outcome, trained


def main() -> None:
    torch.set_num_threads(1)
    arena = Arena.active()
    report = {
        "bits": {build.__name__: bits(build) for build in (norm_and_dropout, convolution)},
        "numpy": numpy_bits(),
        "threads": threads_bits(),
        "strings": foreign_blocks(),
        "child": fork_bits(),
        "statistics": asdict(arena.statistics()) if arena else None,
        "tensor": tensor_peak(arena) if arena else None,
        "step": step_peak(arena) if arena else None,
    }
    json.dump(report, sys.stdout)


def bits(build: object) -> str:
    assert callable(build)
    data = batches(build, 3)
    model, loss_fn, optimizer = build()
    with TrainStep(model, loss_fn, optimizer, data[0]) as step:
        torch.manual_seed(1)
        found = outcome(model, optimizer, trained(step, data))
    return hashlib.sha256(repr(found).encode()).hexdigest()


def numpy_bits() -> str:
    """LAPACK and BLAS through numpy, whose blocks come from malloc."""
    values = np.random.default_rng(0).random((200, 200))
    return hashlib.sha256(
        np.linalg.svd(values)[1].tobytes() + (values @ values).tobytes()
    ).hexdigest()


def threads_bits() -> int:
    """Blocks that one thread takes and another frees."""
    made: list[torch.Tensor] = []
    workers = [
        threading.Thread(target=lambda: made.extend(torch.ones(50_000 + i) for i in range(40)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return int(sum(int(tensor.sum()) for tensor in made))


def foreign_blocks() -> list[int]:
    """malloc, realloc and free of libc's own blocks, and realloc of an aligned one."""
    libc = ctypes.CDLL(None)
    for name in ("malloc", "realloc", "aligned_alloc"):
        getattr(libc, name).restype = ctypes.c_void_p
    libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    found = []
    for take in (libc.malloc, lambda size: libc.aligned_alloc(64, size)):
        block = take(ctypes.c_size_t(1000))
        ctypes.memset(block, 65, 1000)
        for size in (100_000, 200_000, 500):
            block = libc.realloc(block, size)
        found.append(ctypes.string_at(block, 500).count(b"A"))
        libc.free(block)
    libc.free(None)
    return found


def fork_bits() -> int:
    """A child of fork() allocates and frees, also what its parent had taken."""
    tensor = torch.arange(100_000)
    process = os.fork()
    if process == 0:
        total = int(tensor.sum())
        del tensor
        os._exit(0 if total == int(torch.arange(100_000).sum()) else 1)
    return os.waitpid(process, 0)[1]


def tensor_peak(arena: Arena) -> dict[str, int]:
    with arena_peak(arena, planned_bytes=9_000_000) as peak:
        arena.tag = 5
        first = torch.empty(8_000_000, dtype=torch.uint8)
        arena.tag = 6
        second = torch.empty(4_000_000, dtype=torch.uint8)
        del first, second
        arena.tag = -1
        found = peak()
    return {"peak": found.peak_bytes, "tag": found.first_excess_tag}


def step_peak(arena: Arena) -> dict[str, int]:
    """A step's plan, and its peak by the arena and by the profiler."""
    data = batches(norm_and_dropout, 3, rows=512)
    model, loss_fn, optimizer = norm_and_dropout()
    with TrainStep(model, loss_fn, optimizer, data[0]) as step:
        step(*data[0])
        found = measure_step_in_arena(step, data[1:], arena)
        return {
            "planned": step.judgement.peak_bytes,
            "arena": found.peak_bytes,
            "profiler": measure_step_peak(step, data[1:]).peak_bytes,
            "excesses": found.excesses,
        }


if __name__ == "__main__":
    main()
