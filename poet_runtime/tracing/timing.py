"""Seconds of one op as a step under a plan would spend them.

Two things would mislead. libc gives large blocks back to the system when they are freed, so that a
lone op faults every page of its outputs in anew, while a replay's allocator has them: `warm_memory`
makes libc keep pages, and have some, for as long as it lasts. And an op that is run again finds its operands in the
cache, where those of a large step are long pushed out (by other ops, or because they came from
flash): where a step touches more than the last cache holds, the cache is swept before each run.

Invariant: with one thread it is that thread's CPU time, so what else the machine does counts only
as far as it slows memory down; with more it is wall time. The least of three runs counts: whatever
comes between only slows a run down.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch

from poet_runtime.memory.arena import Arena

_TIMED_RUNS = 3

# malloc.h's names of what mallopt sets.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
# How many blocks libc maps by itself (malloc.c: DEFAULT_MMAP_MAX), and the sizes from which it maps
# and gives back once the process has freed a block of 32 MiB (malloc.c: DEFAULT_MMAP_THRESHOLD_MAX,
# and twice that). What is in force cannot be asked for, and those are what any training reaches.
_MOST_MAPPED, _MAPPED_FROM_BYTES, _TRIMMED_FROM_BYTES = 65_536, 32 << 20, 64 << 20

# Smaller blocks come from what libc keeps (malloc.c: DEFAULT_MMAP_THRESHOLD).
_KEPT_BYTES = 128 << 10

_CACHE_BYTES = 32 << 20  # where the system does not say


class OpTimer:
    """Times calls for a step that touches so many bytes in all."""

    def __init__(self, step_bytes: int) -> None:
        self.cold = step_bytes > last_cache_bytes()

    def seconds(self, call: Callable[[], object], allocates_bytes: int) -> float:
        """The least seconds of a call that has run before, and allocates so much at its peak."""
        with warm_memory(allocates_bytes):
            return self._seconds(call)

    def _seconds(self, call: Callable[[], object]) -> float:
        clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
        taken: list[float] = []
        for _ in range(_TIMED_RUNS):
            if self.cold:
                _sweep(last_cache_bytes())
            begin = clock()
            call()
            taken.append(clock() - begin)
        return min(taken)


@contextmanager
def warm_memory(size_bytes: int) -> Iterator[None]:
    """libc has so much with its pages, and keeps what is freed; at the end it gives all of that back.

    Only with glibc, unless the user tuned it or an arena stands in its place: else nothing changes,
    and nothing for what libc keeps anyway. Afterwards its thresholds are those of a process that has
    freed large blocks.
    """
    libc = _tunable_libc() if size_bytes >= _KEPT_BYTES else None
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    try:
        # Twice: an aligned block may not fit into the hole that one of its size has left.
        torch.zeros(2 * size_bytes + _KEPT_BYTES, dtype=torch.uint8, device="cpu")
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, _MOST_MAPPED)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIMMED_FROM_BYTES)
        libc.malloc_trim(0)


@cache
def last_cache_bytes() -> int:
    """Bytes of the last cache before memory, as the system says."""
    found = 0
    for name in ("SC_LEVEL3_CACHE_SIZE", "SC_LEVEL2_CACHE_SIZE"):
        if not found and name in getattr(os, "sysconf_names", {}):
            found = max(0, os.sysconf(name))
    return found or _CACHE_BYTES


def _tunable_libc() -> ctypes.CDLL | None:
    tuned = any(name.startswith("MALLOC_") for name in os.environ)
    tuned = tuned or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if tuned or platform.libc_ver()[0] != "glibc" or Arena.active() is not None:
        return None
    return ctypes.CDLL(None)


def _sweep(size_bytes: int) -> None:
    """Reads as much as the cache holds."""
    _swept(size_bytes).sum()


@cache
def _swept(size_bytes: int) -> torch.Tensor:
    return torch.zeros(size_bytes // 8, dtype=torch.int64, device="cpu")
