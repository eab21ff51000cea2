"""The paging file: made, reserved whole, and marked as this run's before anything is written.

    a directory     a file without a name: gone when the process is, however that ends
    a named file    made with a name, readable by its owner only, locked, removed at the end;
                    one left by a killed run is taken over, and what it holds is never read
    a device        a raw partition: locked, refused while mounted

The first block is a header (whose run, which version); copies begin behind it. What is in the way
and not ours is refused before a byte changes. Invariant: the file's blocks are allocated, so a
full disk is met here and not in mid-step.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from poet_core.errors import UsageError
from poet_core.text import printable
from poet_core.units import format_bytes
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.flash_file import (
    BLOCK_BYTES,
    FlashFile,
    OpenDisk,
    SystemDisk,
    address_of,
    open_flash,
)
from poet_runtime.flash.io_lane import disk_fault

# Magic, version, bytes behind the header, the run's id, CRC-32 of what comes before.
_HEADER = struct.Struct("<8sIQ16s")
_MAGIC = b"POETpage"
_VERSION = 1
_RUN_BYTES = 16
TIERS = ("flash", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashOptions:
    """How flash is used, or what takes its place.

    `tier`: "flash", or "host": copies go to the host's memory, which beside a GPU is no part of the
    plan's RAM and on a CPU is (refused there without `allow_ram`).
    `file`: a named file or a raw device instead of a nameless file in the paging directory.
    `direct`: past the page cache where the file system allows it. `checksums`: by default SUMS on
    flash and NONE in memory. `stall_seconds`: how long the
    disk may go without progress. `allow_ram`: take a file system that is itself RAM (for tests).
    `overwrite`: take a file or device that holds something else. `endurance_bytes`: what the flash
    bears in its life, for the wear report. `open_disk`: the system calls; tests put theirs here.
    """

    tier: str = "flash"
    file: str | os.PathLike[str] | None = None
    direct: bool = True
    checksums: Checksums | None = None
    stall_seconds: float = 60.0
    allow_ram: bool = False
    overwrite: bool = False
    endurance_bytes: int | None = None
    open_disk: OpenDisk = SystemDisk

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise UsageError(
                f"Expected tier to be one of {', '.join(TIERS)}, got {self.tier!r}.",
                code="flash_options",
            )
        if self.tier == "host" and self.file is not None:
            raise UsageError(
                "Expected no paging file where copies go to the host's memory, got "
                f"{printable(str(self.file))!r}.",
                code="flash_options",
                hint="Leave out file, or tier.",
            )
        if self.tier == "flash" and self.checksums is Checksums.NONE:
            raise UsageError(
                "Expected checksums of copies on flash, got NONE.",
                code="flash_options",
                hint="Checksums.SAMPLED costs least.",
            )
        if not self.stall_seconds > 0:
            raise UsageError(
                f"Expected stall_seconds above 0, got {self.stall_seconds}.", code="flash_options"
            )
        if self.endurance_bytes is not None and self.endurance_bytes < 1:
            raise UsageError(
                f"Expected endurance_bytes of at least 1, got {self.endurance_bytes}.",
                code="flash_options",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PagingFile:
    """An open paging file. `stale_run`: the run that left it behind, or "". `remove` ends it."""

    flash: FlashFile
    begin: int
    run_id: str
    stale_run: str
    where: str
    remove: Callable[[], None]


def open_paging_file(size_bytes: int, directory: Path, options: FlashOptions) -> PagingFile:
    """A paging file with room for `size_bytes`, in `directory` unless the options name another.

    Raises ReplayError (`flash_full`, `flash_io`) and UsageError (`paging_file_foreign`,
    `paging_file_busy`, `paging_file_small`, `paging_file_kind`).
    """
    what = f"creating a paging file of {format_bytes(size_bytes)}"
    named = None if options.file is None else Path(os.path.realpath(options.file))
    try:
        descriptor = _nameless(directory) if named is None else _named(named)
    except OSError as error:
        raise disk_fault(error, what) from error
    disk = options.open_disk(descriptor, "paging file")
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        stale_run = "" if named is None else _claim(descriptor, named, options)
        total = size_bytes + BLOCK_BYTES
        if regular:
            disk.reserve(max(total, 2 * BLOCK_BYTES))
        elif named is not None:
            _check_capacity(descriptor, named, total)
        run_id = os.urandom(_RUN_BYTES)
        flash = open_flash(disk, direct=options.direct, scratch=True)
        _write_header(flash, size_bytes, run_id)
    except OSError as error:
        disk.close()
        raise disk_fault(error, what) from error
    except BaseException:
        disk.close()
        raise

    def remove() -> None:
        if named is not None and regular:
            named.unlink(missing_ok=True)
        flash.close()

    return PagingFile(
        flash=flash,
        begin=BLOCK_BYTES,
        run_id=run_id.hex(),
        stale_run=stale_run,
        where=str(named or directory),
        remove=remove,
    )


def _nameless(directory: Path) -> int:
    with tempfile.TemporaryFile(dir=directory, prefix="poet-", buffering=0) as file:
        return os.dup(file.fileno())


def _named(path: Path) -> int:
    """Opens a file, or a device that nobody has mounted."""
    if path.is_block_device():
        return os.open(path, os.O_RDWR | os.O_EXCL | os.O_NOFOLLOW)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _claim(descriptor: int, path: Path, options: FlashOptions) -> str:
    """Locks a named file and refuses one that is not ours to overwrite; the run that left it."""
    mode = os.fstat(descriptor).st_mode
    shown = printable(str(path))
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise UsageError(
            f"Expected {shown!r} to be a file or a block device.", code="paging_file_kind"
        )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(
            f"The paging file {shown!r} is in use by another process.",
            code="paging_file_busy",
            hint="Give each process a paging file of its own.",
        ) from error
    head = os.pread(descriptor, BLOCK_BYTES, 0)
    stale = _run_of(head)
    if not stale and any(head) and not options.overwrite:
        raise UsageError(
            f"{shown!r} holds something that is no paging file; expected an empty file, a new "
            "name, or a paging file of an earlier run.",
            code="paging_file_foreign",
            hint="Name another file, or set FlashOptions(overwrite=True) to lose its content.",
        )
    if stat.S_ISREG(mode):
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)  # a file of an earlier run is the wrong size and holds its data
    return stale


def _check_capacity(descriptor: int, path: Path, needed: int) -> None:
    capacity = os.lseek(descriptor, 0, os.SEEK_END)
    if capacity < needed:
        raise UsageError(
            f"{printable(str(path))!r} holds {format_bytes(capacity)}; the plan needs "
            f"{format_bytes(needed)}.",
            code="paging_file_small",
            details={"capacity_bytes": capacity, "needed_bytes": needed},
        )


def _write_header(flash: FlashFile, size_bytes: int, run_id: bytes) -> None:
    fields = _HEADER.pack(_MAGIC, _VERSION, size_bytes, run_id)
    head = bytearray(fields + zlib.crc32(fields).to_bytes(4, "little")).ljust(BLOCK_BYTES, b"\0")
    flash.write(address_of(head), BLOCK_BYTES, 0)


def _run_of(head: bytes) -> str:
    """The run in a header of any version, or ""."""
    fields, check = head[: _HEADER.size], head[_HEADER.size : _HEADER.size + 4]
    if not fields.startswith(_MAGIC) or zlib.crc32(fields).to_bytes(4, "little") != check:
        return ""
    run: bytes = _HEADER.unpack(fields)[3]
    return run.hex()
