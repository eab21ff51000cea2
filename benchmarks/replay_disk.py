"""Saved-tensor hooks that write to disk: the simple way to train with less memory, and exact.

Every tensor from 1 MiB on that autograd saves, parameters excepted, is written as soon as it is
saved and read when the backward pass asks for it, past the page cache (which the kernel would count
as the process's memory). Invariant: what is read has the bits, the strides and the type of what was
written; a file is of one process and gone with it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from poet_runtime.flash.paging_directory import choose_paging_directory

_LEAST_BYTES = 1 << 20
_BLOCK_BYTES = 4096  # O_DIRECT wants lengths, places and memory in whole blocks
_BUFFER_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """Where a tensor lies, and what it was."""

    place: int
    size_bytes: int
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype


class SavedOnDisk:
    """`write` and `read` are the two hooks; `begin` makes the file's room free for another step."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = {p.untyped_storage().data_ptr() for p in parameters}
        self._file, name = tempfile.mkstemp(prefix="saved-", dir=choose_paging_directory())
        Path(name).unlink()  # it is there as long as it is open
        direct = os.open(f"/proc/self/fd/{self._file}", os.O_RDWR | os.O_DIRECT)
        os.close(self._file)
        self._file, self._end = direct, 0
        self._buffer = mmap.mmap(-1, _BUFFER_BYTES)  # of whole pages, as O_DIRECT wants it

    def begin(self) -> None:
        """A new step: nothing of the last one is wanted."""
        self._end = 0

    def write(self, saved: Tensor) -> Tensor | OnDisk:
        """The pack hook."""
        size_bytes = saved.numel() * saved.element_size()
        if (
            size_bytes < _LEAST_BYTES
            or saved.untyped_storage().data_ptr() in self._parameters
            or not _is_dense(saved)
        ):
            return saved
        place = self._end
        source = _memory(saved)
        for begin in range(0, size_bytes, _BUFFER_BYTES):
            part = source[begin : begin + _BUFFER_BYTES]
            self._buffer[: len(part)] = part
            with memoryview(self._buffer)[: _whole_blocks(len(part))] as block:
                os.pwrite(self._file, block, place + begin)
        self._end += _whole_blocks(size_bytes)
        return OnDisk(
            place=place, size_bytes=size_bytes, shape=saved.shape, strides=saved.stride(),
            dtype=saved.dtype,
        )  # fmt: skip

    def read(self, packed: Tensor | OnDisk) -> Tensor:
        """The unpack hook."""
        if isinstance(packed, Tensor):
            return packed
        read = torch.empty_strided(packed.shape, packed.strides, dtype=packed.dtype)
        target = _memory(read)
        for begin in range(0, packed.size_bytes, _BUFFER_BYTES):
            length = min(_BUFFER_BYTES, packed.size_bytes - begin)
            with memoryview(self._buffer)[: _whole_blocks(length)] as block:
                os.preadv(self._file, [block], packed.place + begin)
            target[begin : begin + length] = self._buffer[:length]
        return read

    def close(self) -> None:
        """Gives the file's room back."""
        os.close(self._file)
        self._buffer.close()


def _is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill a stretch of memory, in whatever order, each once."""
    expected = 1
    for stride, length in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


def _memory(tensor: Tensor) -> memoryview:
    """A dense tensor's bytes, in their own order."""
    flat = tensor.detach().as_strided((tensor.numel(),), (1,)).view(torch.uint8)
    return memoryview(cast("Any", flat.numpy()))


def _whole_blocks(size_bytes: int) -> int:
    return -(-size_bytes // _BLOCK_BYTES) * _BLOCK_BYTES
