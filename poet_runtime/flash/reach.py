"""How the I/O thread reaches the memory of a tensor: in place, or through a buffer of the host.

    InPlace    the tensor is in the host's memory: its own address
    Staged     it is in a device's memory: a locked buffer of one piece, filled and emptied by the
               copy stream

A transfer begins on the program's thread with `mark`: what the program has issued until then has
happened to the memory before a byte of it moves. Invariant: a piece that `put` was told of is in
the tensor's memory when `put` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from poet_runtime.flash.host_memory import HostMemoryTier, PageLock
from poet_runtime.flash.streams import Mark, Streams, bytes_of

PIECE_BYTES = 8 * 2**20
"""Transfers go in pieces, so that a slow disk is told from a dead one. Smaller ones cost speed."""


class Reach(Protocol):
    """See the module. All but `mark` on the I/O thread; no piece is larger than PIECE_BYTES."""

    @property
    def host_bytes(self) -> int:
        """RAM of the host that it takes."""

    @property
    def end(self) -> Callable[[], None]:
        """What gives that back; does not hold the object."""

    def mark(self) -> Mark:
        """What the program has done so far, on its own thread."""

    def fetch(self, memory: torch.UntypedStorage, begin: int, count: int, mark: Mark) -> int:
        """The address at which `count` bytes from `begin` can be read."""

    def room(self, memory: torch.UntypedStorage, begin: int) -> int:
        """The address at which the bytes from `begin` are to be put."""

    def put(self, memory: torch.UntypedStorage, begin: int, count: int, mark: Mark) -> None:
        """`count` bytes have been put there."""


class InPlace:
    """Memory of the host."""

    host_bytes = 0

    @property
    def end(self) -> Callable[[], None]:
        """See Reach."""
        return _nothing

    def mark(self) -> None:
        """See Reach."""
        return

    def fetch(self, memory: torch.UntypedStorage, begin: int, _count: int, _mark: Mark) -> int:
        """See Reach."""
        return memory.data_ptr() + begin

    def room(self, memory: torch.UntypedStorage, begin: int) -> int:
        """See Reach."""
        return memory.data_ptr() + begin

    def put(self, memory: torch.UntypedStorage, begin: int, count: int, mark: Mark) -> None:
        """See Reach."""


class Staged:
    """Memory of a device."""

    def __init__(self, streams: Streams, page_lock: PageLock | None = None) -> None:
        self._streams = streams
        buffer = HostMemoryTier(PIECE_BYTES, page_lock)
        self._buffer, self.end = buffer.pool, buffer.end
        self.host_bytes = buffer.host_bytes

    def mark(self) -> Mark:
        """See Reach."""
        return self._streams.mark()

    def fetch(self, memory: torch.UntypedStorage, begin: int, count: int, mark: Mark) -> int:
        """See Reach."""
        piece = bytes_of(memory)[begin : begin + count]
        self._streams.finish(self._streams.copy(self._buffer[:count], piece, mark))
        return self._buffer.data_ptr()

    def room(self, _memory: torch.UntypedStorage, _begin: int) -> int:
        """See Reach."""
        return self._buffer.data_ptr()

    def put(self, memory: torch.UntypedStorage, begin: int, count: int, mark: Mark) -> None:
        """See Reach."""
        piece = bytes_of(memory)[begin : begin + count]
        self._streams.finish(self._streams.copy(piece, self._buffer[:count], mark))


def _nothing() -> None:
    return
