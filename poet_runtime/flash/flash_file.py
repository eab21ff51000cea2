"""A file on flash, read and written past the page cache where the system allows it.

    Disk        the system calls on one open file: what tests replace to inject faults
    FlashFile   whole transfers of any length and memory, made of what O_DIRECT asks for:
                offsets and lengths in blocks, memory at the disk's alignment

A transfer begins at a block; a write pads its last block with zeros, so the bytes up to the next
block belong to it. Memory that is not aligned goes through a buffer of 2 MiB. Invariant: a
transfer either moves every byte or raises OSError. One thread at a time.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Protocol

BLOCK_BYTES = 4096
"""Offsets and lengths are multiples of it: the largest block of disks in use."""

_BOUNCE_BYTES = 2 * 2**20
# What memory a disk takes is not the same everywhere; torch's own allocator aligns to 64.
_MEMORY_ALIGNMENTS = (64, 512, BLOCK_BYTES)


class Disk(Protocol):
    """The system calls on one open file; every one may raise OSError, as the system does."""

    def fileno(self) -> int:
        """The descriptor."""

    def reserve(self, size_bytes: int) -> None:
        """Allocates the file's blocks, so that a later write cannot find the disk full."""

    def write(self, parts: Sequence[memoryview], offset: int) -> int:
        """Writes the parts one after the other; returns how many bytes went out, maybe not all."""

    def read(self, parts: Sequence[memoryview], offset: int) -> int:
        """Fills the parts; returns how many bytes came in, 0 at the end of the file."""

    def sync(self) -> None:
        """Returns when what was written would survive a power cut."""

    def close(self) -> None:
        """Gives the descriptor back."""


class SystemDisk:
    """The operating system's own calls."""

    def __init__(self, descriptor: int, _name: str) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """See Disk."""
        return self._descriptor

    def reserve(self, size_bytes: int) -> None:
        """See Disk."""
        os.posix_fallocate(self._descriptor, 0, size_bytes)

    def write(self, parts: Sequence[memoryview], offset: int) -> int:
        """See Disk."""
        return os.pwritev(self._descriptor, parts, offset)

    def read(self, parts: Sequence[memoryview], offset: int) -> int:
        """See Disk."""
        return os.preadv(self._descriptor, parts, offset)

    def sync(self) -> None:
        """See Disk."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """See Disk."""
        os.close(self._descriptor)


OpenDisk = Callable[[int, str], Disk]
"""Makes a Disk of an open descriptor; the text says which file it is ("paging file", ...)."""


class FlashFile:
    """Whole transfers on a disk. `memory_alignment` None: through the page cache."""

    def __init__(self, disk: Disk, *, memory_alignment: int | None) -> None:
        self.disk = disk
        self._alignment = memory_alignment
        self._bounce: mmap.mmap | None = None

    @property
    def direct(self) -> bool:
        """Whether transfers go past the page cache."""
        return self._alignment is not None

    def write(self, address: int, size_bytes: int, offset: int) -> None:
        """Writes `size_bytes` of the memory at `address`."""
        if self._alignment is None:
            self._whole(self.disk.write, [memory_view(address, size_bytes)], offset)
        elif address % self._alignment or not self._in_place(True, address, size_bytes, offset):
            for done in range(0, size_bytes, _BOUNCE_BYTES):
                count = min(_BOUNCE_BYTES, size_bytes - done)
                padded = self._fill_bounce(address + done, count)
                self._whole(self.disk.write, [padded], offset + done)

    def read(self, address: int, size_bytes: int, offset: int) -> None:
        """Fills `size_bytes` of the memory at `address`."""
        if self._alignment is None:
            self._whole(self.disk.read, [memory_view(address, size_bytes)], offset)
        elif address % self._alignment or not self._in_place(False, address, size_bytes, offset):
            for done in range(0, size_bytes, _BOUNCE_BYTES):
                count = min(_BOUNCE_BYTES, size_bytes - done)
                bounce = self._bounce_address()
                blocks = memory_view(bounce, blocks_of(count))
                self._whole(self.disk.read, [blocks], offset + done)
                ctypes.memmove(address + done, bounce, count)

    def close(self) -> None:
        """Gives file and buffer back."""
        self.disk.close()

    def _in_place(self, outward: bool, address: int, size_bytes: int, offset: int) -> bool:
        """A transfer between the disk and the caller's memory, but for the last, broken block.
        False where the disk refuses such memory after all: it is not asked again."""
        whole = size_bytes - size_bytes % BLOCK_BYTES
        parts = [memory_view(address, whole)] if whole else []
        rest = size_bytes - whole
        if rest:
            parts.append(self._fill_bounce(address + whole, rest))
        try:
            self._whole(self.disk.write if outward else self.disk.read, parts, offset)
        except OSError as error:
            if error.errno != errno.EINVAL or self._alignment == BLOCK_BYTES:
                raise
            self._alignment = BLOCK_BYTES
            return False
        if rest and not outward:
            ctypes.memmove(address + whole, self._bounce_address(), rest)
        return True

    def _whole(
        self,
        call: Callable[[Sequence[memoryview], int], int],
        parts: list[memoryview],
        offset: int,
    ) -> None:
        """Repeats a call until every byte has moved."""
        while parts:
            count = call(parts, offset)
            if self.direct:
                count -= count % BLOCK_BYTES  # go on at a block
            if count <= 0:
                raise OSError(errno.EIO, "the file ends early")
            offset += count
            while parts and count >= len(parts[0]):
                count -= len(parts.pop(0))
            if count:
                parts[0] = parts[0][count:]

    def _fill_bounce(self, address: int, count: int) -> memoryview:
        """The bytes in the buffer, padded to whole blocks with zeros."""
        bounce = self._bounce_address()
        ctypes.memmove(bounce, address, count)
        ctypes.memset(bounce + count, 0, blocks_of(count) - count)
        return memory_view(bounce, blocks_of(count))

    def _bounce_address(self) -> int:
        if self._bounce is None:
            self._bounce = mmap.mmap(-1, _BOUNCE_BYTES)
        return address_of(self._bounce)


def open_flash(disk: Disk, *, direct: bool, scratch: bool) -> FlashFile:
    """A FlashFile on an open file of at least two blocks: past the page cache if `direct`, where
    the file system can (a probe decides, not its name). `scratch`: the first two blocks may be
    overwritten; without it only memory at whole blocks counts as aligned."""
    descriptor = disk.fileno()
    if direct and hasattr(os, "O_DIRECT"):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError:
            return FlashFile(disk, memory_alignment=None)
        alignment = _probe(descriptor, scratch)
        if alignment is not None:
            return FlashFile(disk, memory_alignment=alignment)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
    return FlashFile(disk, memory_alignment=None)


def _probe(descriptor: int, scratch: bool) -> int | None:
    """The least alignment of memory with which two blocks can be moved.

    Only a write is proof: a read of blocks that were never written does not reach the disk.
    """
    call = os.pwritev if scratch else os.preadv
    with mmap.mmap(-1, 4 * BLOCK_BYTES) as memory, memoryview(memory) as view:
        for alignment in _MEMORY_ALIGNMENTS if scratch else (BLOCK_BYTES,):
            with view[alignment : alignment + 2 * BLOCK_BYTES] as part:
                try:
                    if call(descriptor, [part], 0) == len(part):
                        return alignment
                except OSError:
                    continue
    return None


def memory_view(address: int, size_bytes: int) -> memoryview:
    """The memory at `address`; whoever owns it must outlive the view."""
    return memoryview((ctypes.c_ubyte * size_bytes).from_address(address)).cast("B")


def address_of(buffer: mmap.mmap | bytearray | memoryview) -> int:
    """Where a writable buffer lies."""
    return ctypes.addressof(ctypes.c_ubyte.from_buffer(buffer))


def blocks_of(size_bytes: int) -> int:
    """Bytes in the blocks that a transfer of `size_bytes` takes."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
