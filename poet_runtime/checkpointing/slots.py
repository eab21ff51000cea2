"""Checkpoint files: two slots, of which one is whole at any moment.

    slot    header (one block: sequence, where the table is, CRC-32s) | data | table (JSON)

A write goes to the slot that is not the newest whole one: its header is wiped, then come data and
table, then the header, each on the disk before the next begins. A write that is cut anywhere
leaves a slot without a valid header beside one that was not touched. Every byte is under a CRC-32
and nothing is ever unpickled. Invariant: `newest` returns only what was read back whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from poet_runtime.flash.flash_file import (
    BLOCK_BYTES,
    FlashFile,
    OpenDisk,
    SystemDisk,
    address_of,
    blocks_of,
    memory_view,
    open_flash,
)

# Magic, version, sequence, and of the table: offset, bytes, CRC-32. Then the header's own CRC-32.
_HEADER = struct.Struct("<8sIQQQI")
_MAGIC = b"POETckpt"
_VERSION = 1
_PIECE_BYTES = 8 * 2**20
_READ_BYTES = 2**20
_TABLE_BYTES = 64 * 2**20
"""No table is larger; what says so is damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One tensor's bytes to be written: `facts` (JSON) go to the table as they are."""

    facts: Mapping[str, Any]
    size_bytes: int
    pieces: Callable[[], Iterable[memoryview]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPart:
    """A part in a slot."""

    facts: Mapping[str, Any]
    begin: int
    size_bytes: int
    crc: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint. `skipped`: newer or broken slots that were passed over, and why."""

    sequence: int
    facts: Mapping[str, Any]
    parts: tuple[StoredPart, ...]
    skipped: tuple[str, ...]
    slot: int


class _Damaged(Exception):  # noqa: N818 - a finding about a slot, which never leaves this file
    """A slot is not whole; the message says what is wrong with it."""


class _Empty(_Damaged):
    """A slot whose header is blank: never written, or its write was cut."""


class CheckpointSlots:
    """The two files `path.0` and `path.1`, locked while this object lives.

    Raises OSError, and UsageError (`checkpoint_busy`) where another process has them.
    """

    def __init__(
        self, path: Path, *, direct: bool = True, open_disk: OpenDisk = SystemDisk
    ) -> None:
        self._files: list[FlashFile] = []
        self._names = [f"{path.name}.{slot}" for slot in (0, 1)]
        try:
            for name in self._names:
                self._files.append(_open_slot(path.with_name(name), direct, open_disk))
        except BaseException:
            self.close()
            raise
        _sync_directory(path.parent)
        self._newest: int | None = None
        self._sequence = 0
        self.bytes_written = 0

    def reserve(self, size_bytes: int) -> None:
        """Allocates both slots for parts of `size_bytes` together, each in whole blocks."""
        for file in self._files:
            file.disk.reserve(BLOCK_BYTES + size_bytes)

    def newest(self, progress: Callable[[], None]) -> Checkpoint | None:
        """The newest checkpoint that reads back whole, or None where none was ever completed.

        Raises DataError (`checkpoint_corrupt`) where there were checkpoints and none is whole.
        """
        found: list[Checkpoint] = []
        skipped: list[str] = []
        corrupt = False
        for slot, name in enumerate(self._names):
            try:
                found.append(self._whole_slot(slot, progress))
            except _Damaged as damage:
                corrupt |= not isinstance(damage, _Empty)
                skipped.append(f"{name}: {damage}")
        if not found:
            if corrupt:
                raise DataError(
                    f"No checkpoint is whole: {'; '.join(skipped)}.",
                    code="checkpoint_corrupt",
                    hint="Both copies are damaged: look at the disk, and train from the beginning.",
                )
            return None
        best = max(found, key=lambda checkpoint: checkpoint.sequence)
        self._newest, self._sequence = best.slot, best.sequence
        return Checkpoint(
            sequence=best.sequence, facts=best.facts, parts=best.parts, slot=best.slot,
            skipped=tuple(skipped),
        )  # fmt: skip

    def write(
        self, facts: Mapping[str, Any], parts: Iterable[Part], progress: Callable[[], None]
    ) -> None:
        """Writes a checkpoint over the older slot. `progress` is called as it gets on."""
        slot = 0 if self._newest is None else 1 - self._newest
        file, sequence = self._files[slot], self._sequence + 1
        _write_bytes(file, bytes(BLOCK_BYTES), 0)
        file.disk.sync()
        progress()
        begin = BLOCK_BYTES
        stored: list[dict[str, Any]] = []
        for part in parts:
            crc = _write_part(file, part, begin, progress)
            stored.append(
                {"facts": part.facts, "begin": begin, "size_bytes": part.size_bytes, "crc": crc}
            )
            begin += blocks_of(part.size_bytes)
        table = json.dumps({"facts": facts, "parts": stored}).encode()
        _write_bytes(file, table.ljust(blocks_of(len(table)), b" "), begin)
        file.disk.sync()
        progress()
        header = _HEADER.pack(_MAGIC, _VERSION, sequence, begin, len(table), zlib.crc32(table))
        header += zlib.crc32(header).to_bytes(4, "little")
        _write_bytes(file, header.ljust(BLOCK_BYTES, b"\0"), 0)
        file.disk.sync()
        self._newest, self._sequence = slot, sequence
        self.bytes_written += begin + blocks_of(len(table)) + BLOCK_BYTES  # the header twice

    def read(self, checkpoint: Checkpoint, part: StoredPart, address: int) -> None:
        """Fills the memory at `address` with a part. Raises DataError (`checkpoint_corrupt`)."""
        self._files[checkpoint.slot].read(address, part.size_bytes, part.begin)
        if zlib.crc32(memory_view(address, part.size_bytes)) != part.crc:
            raise DataError(
                f"{self._names[checkpoint.slot]}: a part changed after it was verified.",
                code="checkpoint_corrupt",
                hint="The disk or the memory is failing.",
            )

    def close(self) -> None:
        """Gives the files back."""
        while self._files:
            self._files.pop().close()

    def _whole_slot(self, slot: int, progress: Callable[[], None]) -> Checkpoint:
        try:
            return self._read_slot(slot, progress)
        except OSError as error:
            raise _Damaged(f"it cannot be read: {error.strerror or error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise _Damaged("the table makes no sense") from error

    def _read_slot(self, slot: int, progress: Callable[[], None]) -> Checkpoint:
        file = self._files[slot]
        size = os.fstat(file.disk.fileno()).st_size
        head = _read_bytes(file, _HEADER.size + 4, 0)
        header, check = head[: _HEADER.size], head[_HEADER.size :]
        if not any(head):
            raise _Empty("no complete checkpoint")
        if zlib.crc32(header).to_bytes(4, "little") != check:
            # A header fits a sector, which a disk writes whole or not: this is no cut write.
            raise _Damaged("the header's checksum is wrong")
        magic, version, sequence, begin, length, crc = _HEADER.unpack(header)
        if magic != _MAGIC or version != _VERSION:
            raise _Damaged(f"version {version}, expected {_VERSION}")
        if begin + length > size or length > _TABLE_BYTES:
            raise _Damaged("the file ends early")
        table = _read_bytes(file, length, begin)
        if zlib.crc32(table) != crc:
            raise _Damaged("the table's checksum is wrong")
        document = json.loads(table)
        parts = tuple(StoredPart(**part) for part in document["parts"])
        for part in parts:
            if not BLOCK_BYTES <= part.begin <= part.begin + part.size_bytes <= size:
                raise _Damaged("the file ends early")
            if _crc_of(file, part, progress) != part.crc:
                raise _Damaged("the checksum of a part is wrong")
        return Checkpoint(
            sequence=sequence, facts=document["facts"], parts=parts, slot=slot, skipped=()
        )


def _open_slot(path: Path, direct: bool, open_disk: OpenDisk) -> FlashFile:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    disk = open_disk(descriptor, path.name)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        head = os.pread(descriptor, BLOCK_BYTES, 0)
        _check_ours(path, head)
        disk.reserve(2 * BLOCK_BYTES)
        return open_flash(disk, direct=direct, scratch=False)
    except BlockingIOError as error:
        disk.close()
        raise UsageError(
            f"The checkpoint {printable(str(path))!r} is in use by another process or TrainStep.",
            code="checkpoint_busy",
            hint="Give each run a checkpoint_path of its own.",
        ) from error
    except BaseException:
        disk.close()
        raise


def _check_ours(path: Path, head: bytes) -> None:
    if any(head) and not head.startswith(_MAGIC):
        raise UsageError(
            f"{printable(str(path))!r} is no checkpoint; it is left alone.",
            code="checkpoint_foreign",
            hint="Give checkpoint_path a name of its own.",
        )


def _write_part(file: FlashFile, part: Part, begin: int, progress: Callable[[], None]) -> int:
    crc, written = 0, 0
    for piece in part.pieces():
        for at in range(0, len(piece), _PIECE_BYTES):
            some = piece[at : at + _PIECE_BYTES]
            crc = zlib.crc32(some, crc)
            file.write(address_of(some), len(some), begin + written)
            written += len(some)
            if not file.direct:
                file.disk.sync()  # bit by bit: the page cache would leave it all to one long sync
            progress()
    if written != part.size_bytes:
        raise OSError(f"a part of {part.size_bytes} bytes gave {written}")
    return crc


def _write_bytes(file: FlashFile, content: bytes, offset: int) -> None:
    buffer = bytearray(content)
    file.write(address_of(buffer), len(buffer), offset)


def _read_bytes(file: FlashFile, size_bytes: int, offset: int) -> bytes:
    buffer = bytearray(max(1, size_bytes))
    file.read(address_of(buffer), size_bytes, offset)
    return bytes(buffer[:size_bytes])


def _crc_of(file: FlashFile, part: StoredPart, progress: Callable[[], None]) -> int:
    buffer = bytearray(min(_READ_BYTES, max(1, part.size_bytes)))
    crc = 0
    for done in range(0, part.size_bytes, _READ_BYTES):
        count = min(_READ_BYTES, part.size_bytes - done)
        file.read(address_of(buffer), count, part.begin + done)
        crc = zlib.crc32(memoryview(buffer)[:count], crc)
        progress()
    return crc


def _sync_directory(directory: Path) -> None:
    """A new name survives a power cut once its directory is on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
