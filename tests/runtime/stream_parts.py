"""Streams for machines without a GPU: the program's stream is the CPU, copies are as late as can be.

A copy happens when somebody waits for it, with the bytes that the memory has by then, and holds on
to no memory: whoever frees or writes a storage too early is found out, as on a GPU that is slow.
"""

from __future__ import annotations

import ctypes
from collections import deque

import torch
from torch.multiprocessing.reductions import StorageWeakRef


class LateStreams:
    """See `poet_runtime.flash.streams.Streams`."""

    def __init__(self) -> None:
        self.issued = self.done = self.held = 0
        self._pending: deque[tuple[_Memory, _Memory]] = deque()

    def mark(self) -> int:
        return 0  # the CPU has always done what it was told

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: int) -> int:
        assert after == 0
        assert len(target) == len(source)
        self._pending.append((_Memory(target), _Memory(source)))
        self.issued += 1
        return self.issued

    def hold(self, mark: int) -> None:
        self.held += 1
        self.finish(mark)

    def finish(self, mark: int) -> None:
        while self.done < mark:
            target, source = self._pending.popleft()
            self.done += 1
            ctypes.memmove(target.address(), source.address(), target.count)


class _Memory:
    def __init__(self, tensor: torch.Tensor) -> None:
        self._begin, self.count = tensor.data_ptr(), len(tensor)
        self._alive = StorageWeakRef(tensor.untyped_storage())

    def address(self) -> int:
        assert not self._alive.expired(), "memory was given back before its copy was over"
        return self._begin


class CountingLock:
    """A page lock that counts what is locked."""

    def __init__(self, refuse: bool = False) -> None:
        self.locked: dict[int, int] = {}
        self._refuse = refuse

    def lock(self, address: int, size_bytes: int) -> None:
        if self._refuse:
            raise RuntimeError("CUDA error: out of memory")
        self.locked[address] = size_bytes

    def unlock(self, address: int) -> None:
        del self.locked[address]
