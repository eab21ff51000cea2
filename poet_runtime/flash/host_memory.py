"""The host's memory as a second tier: one pool, allocated and touched whole before the first step.

Beside a GPU this is RAM that the plan's budget does not speak of; its pages are then locked, so
that a copy engine can reach them. On the CPU it is the very RAM that a budget is about, which is
why `open_pager` refuses it there. Invariant: no page of the pool is allocated later, so the host
can be found full at the start only.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from typing import Protocol

import torch

from poet_core.errors import ReplayError
from poet_core.units import format_bytes
from poet_runtime.flash.flash_file import address_of


class PageLock(Protocol):
    """Keeps memory where it is, for a device that reads and writes it by itself."""

    def lock(self, address: int, size_bytes: int) -> None:
        """Raises RuntimeError where the system refuses."""

    def unlock(self, address: int) -> None:
        """Undoes `lock`."""


class HostMemoryTier:
    """Room for `size_bytes` of copies in RAM; see `tiers.Tier`. Raises ReplayError
    (`host_memory_full`)."""

    def __init__(self, size_bytes: int, page_lock: PageLock | None = None) -> None:
        self._size_bytes = size_bytes
        self._locked = page_lock is not None
        # Outside of torch's allocators: they round up (pinned memory to a power of two), and what
        # they hold would be counted as tensors of the step.
        try:
            memory = _populated(size_bytes)
            self._address = address_of(memory)
            if page_lock is not None:
                page_lock.lock(self._address, size_bytes)
        except (OSError, RuntimeError) as error:
            raise ReplayError(
                f"The host has no {format_bytes(size_bytes)} of "
                f"{'lockable ' if self._locked else ''}memory for copies: {error}.",
                code="host_memory_full",
                hint="Give the device more memory, or page to flash: FlashOptions(tier='flash').",
                details={"size_bytes": size_bytes},
            ) from error
        self.pool: torch.Tensor = torch.frombuffer(memory, dtype=torch.uint8)
        self.end: Callable[[], None] = _unlocking(page_lock, memory)

    @property
    def where(self) -> str:
        """See Tier."""
        return "host memory, locked" if self._locked else "host memory"

    @property
    def direct(self) -> None:
        """See Tier."""
        return

    @property
    def host_bytes(self) -> int:
        """See Tier."""
        return self._size_bytes

    def write(self, address: int, size_bytes: int, offset: int) -> None:
        """See Tier."""
        ctypes.memmove(self._address + offset, address, size_bytes)

    def read(self, address: int, size_bytes: int, offset: int) -> None:
        """See Tier."""
        ctypes.memmove(address, self._address + offset, size_bytes)


def _populated(size_bytes: int) -> mmap.mmap:
    """Memory whose every page is there. It goes when nobody refers to it any more."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
    memory = mmap.mmap(-1, size_bytes, flags=flags)
    if not hasattr(mmap, "MAP_POPULATE"):  # Linux has it
        ctypes.memset(address_of(memory), 0, size_bytes)
    return memory


def _unlocking(page_lock: PageLock | None, memory: mmap.mmap) -> Callable[[], None]:
    """Holds the memory, which must not go while it is locked."""
    left = [memory]

    def end() -> None:
        while left:
            address = address_of(left[-1])
            left.pop()
            if page_lock is not None:
                page_lock.unlock(address)

    return end
