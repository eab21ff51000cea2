"""A file of tensors that needs nothing to be read but an address: the state on its way to a worker.

    POETTNSR | length of the table, 8 bytes little-endian | the table, JSON | tensors, a page each

Tensors lie contiguous, each at a multiple of a page, so a reader maps the file and has them all
without reading one: what a step then takes into RAM it copies, page by page, and the rest stays in
the file. Invariant: nothing in the file is code, and a table that does not fit the file is refused.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from poet_core.errors import DataError
from poet_core.text import printable

Key = tuple[str, ...]

_MAGIC = b"POETTNSR"
_PAGE = 4096  # what mmap(2) and O_DIRECT ask for
_PIECE_BYTES = 2 << 20
_TABLE_MOST = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One tensor of the file before its bytes are known."""

    key: Key
    dtype: torch.dtype
    size: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes, contiguous."""
        return torch.Size(self.size).numel() * self.dtype.itemsize


def shape_of(key: Key, tensor: torch.Tensor) -> Shape:
    """The shape of a tensor, under its key."""
    return Shape(key=key, dtype=tensor.dtype, size=tuple(tensor.shape))


def write_tensors(path: Path, shapes: Sequence[Shape], values: Iterable[torch.Tensor]) -> None:
    """Writes the file; `values` come one at a time, in the order of `shapes`."""
    entries, offset = [], 0
    for shape in shapes:
        entries.append((list(shape.key), str(shape.dtype), list(shape.size), offset))
        offset += _pages(shape.size_bytes)
    table = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(_MAGIC + len(table).to_bytes(8, "little") + table)
        begin = _pages(file.tell())
        for (_, _, _, place), value in _one_by_one(entries, values):
            file.seek(begin + place)
            _write(file, value.pop().detach().contiguous())
        file.truncate(begin + offset)


@dataclass(frozen=True, slots=True)
class MappedTensors:
    """The tensors of a file, on private pages of it: writing to one changes no file."""

    path: Path
    tensors: Mapping[Key, torch.Tensor]
    mapped: mmap.mmap

    def forget_pages(self) -> None:
        """Lets the system drop the pages in RAM, those that were written to included: a tensor
        that is still used is read again, as it is in the file."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)
        forget_pages(self.path)


def read_tensors(path: Path) -> MappedTensors:
    """Raises DataError (`tensors_invalid`)."""
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 8)
        length = int.from_bytes(head[len(_MAGIC) :], "little")
        if head[: len(_MAGIC)] != _MAGIC or len(head) != len(_MAGIC) + 8 or length > _TABLE_MOST:
            raise _invalid(path, "its beginning is not that of a file of tensors")
        table = file.read(length)
        begin, end = _pages(file.tell()), os.fstat(file.fileno()).st_size
        try:
            entries = [_entry(*entry) for entry in json.loads(table)]
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise _invalid(path, f"its table cannot be read: {error!r:.100}") from error
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    found: dict[Key, torch.Tensor] = {}
    for shape, offset in entries:
        place = begin + offset
        if offset < 0 or offset % _PAGE or place + shape.size_bytes > end:
            raise _invalid(path, f"tensor {shape.key!r:.100} lies outside of it")
        count = torch.Size(shape.size).numel()
        if count:
            flat = torch.frombuffer(mapped, dtype=shape.dtype, count=count, offset=place)
            found[shape.key] = flat.view(shape.size)
        else:
            found[shape.key] = torch.empty(shape.size, dtype=shape.dtype, device="cpu")
    return MappedTensors(path, found, mapped)


def forget_pages(path: Path) -> None:
    """Lets the system drop its cached pages of the file: they count in a memory group."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # dirty pages would stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, which must outlive the view."""
    size_bytes = tensor.numel() * tensor.element_size()
    if not size_bytes:
        return memoryview(b"")
    return memoryview((ctypes.c_ubyte * size_bytes).from_address(tensor.data_ptr())).cast("B")


def dtype_named(name: str) -> torch.dtype:
    """The dtype of a name such as `torch.float32`. Raises TypeError."""
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"no dtype: {name[:40]!r}")
    return found


def _entry(key: Sequence[str], dtype: str, size: Sequence[int], offset: int) -> tuple[Shape, int]:
    numbers = tuple(int(length) for length in size)
    if any(length < 0 for length in numbers):
        raise ValueError("a negative size")
    return Shape(key=tuple(map(str, key)), dtype=dtype_named(dtype), size=numbers), int(offset)


def _one_by_one(
    entries: Sequence[tuple[Any, ...]], values: Iterable[torch.Tensor]
) -> Iterator[tuple[tuple[Any, ...], list[torch.Tensor]]]:
    """Each entry with its value in a list, to be taken out of it: a loop's variable would hold one
    value while the next is made, and two of the largest are more than a cap may leave."""
    remaining = iter(values)
    for entry in entries:
        yield entry, [next(remaining)]


def _write(file: IO[bytes], tensor: torch.Tensor) -> None:
    """In pieces, each on the disk before the next: under a cap, cached pages that wait to be written
    are memory that the kernel cannot take back in time."""
    content = bytes_of(tensor)
    for begin in range(0, len(content), _PIECE_BYTES):
        piece = content[begin : begin + _PIECE_BYTES]
        file.write(piece)
        if len(piece) == _PIECE_BYTES and hasattr(os, "posix_fadvise"):
            file.flush()
            os.fdatasync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE) * _PAGE


def _invalid(path: Path, why: str) -> DataError:
    return DataError(
        f"{printable(str(path))} is not a whole file of tensors: {why}.", code="tensors_invalid"
    )
