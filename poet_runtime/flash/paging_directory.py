"""Where a paging file may lie: on a disk, never on a file system that is itself RAM.

A paging file on tmpfs or ramfs takes from the budget what it pretends to give. Invariant: the
directory returned exists and, on Linux, its file system is not one of those.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path

from poet_core.errors import UsageError
from poet_core.text import printable
from poet_runtime.flash.paging_file import FlashOptions

# linux/magic.h
_MEMORY_FILE_SYSTEMS = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x958458F6: "hugetlbfs"}
_STATFS_BYTES = 256  # struct statfs is 120 bytes on 64-bit Linux; room for other layouts


def choose_paging_directory(
    directory: str | os.PathLike[str] | None = None, *, allow_ram: bool = False
) -> Path:
    """`directory`, or by default the first of the temporary directories that is on a disk.

    Raises UsageError: `paging_directory_missing`, `paging_on_ram` (not with `allow_ram`).
    """
    if directory is not None:
        chosen = Path(directory)
        _check_directory(chosen)
        kind = memory_file_system(chosen)
        if kind and not allow_ram:
            raise _on_ram(chosen, kind)
        return chosen
    candidates = [Path(tempfile.gettempdir()), Path("/var/tmp")]  # noqa: S108 - a directory to look at, not a file name to guess
    kinds = [
        memory_file_system(candidate) if candidate.is_dir() else "missing"
        for candidate in candidates
    ]
    for candidate, kind in zip(candidates, kinds, strict=True):
        if not kind and os.access(candidate, os.W_OK):
            return candidate
    raise _on_ram(candidates[0], kinds[0] or "not writable")


def choose_paging_place(directory: str | os.PathLike[str] | None, options: FlashOptions) -> Path:
    """The directory of the paging file that the options name, or else the paging directory."""
    if options.file is not None:
        return check_paging_file(options.file, allow_ram=options.allow_ram)
    return choose_paging_directory(directory, allow_ram=options.allow_ram)


def check_paging_file(file: str | os.PathLike[str], *, allow_ram: bool = False) -> Path:
    """The directory of a named paging file or raw device, which must not be RAM.

    Raises UsageError: `paging_directory_missing`, `paging_on_ram` (not with `allow_ram`).
    """
    path = Path(os.path.realpath(file))
    _check_directory(path.parent)
    kind = memory_device(path) if path.is_block_device() else memory_file_system(path.parent)
    if kind and not allow_ram:
        raise _on_ram(path, kind)
    return path.parent


def memory_device(path: Path) -> str:
    """The name of a block device that is RAM (ram0, zram0), or "" where it is none."""
    device = path.stat().st_rdev
    node = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    return node if node.startswith(("ram", "zram")) else ""


def memory_file_system(directory: Path) -> str:
    """The name of the RAM file system that `directory` lies on, or "" where it is none."""
    if sys.platform != "linux":
        return ""
    library = ctypes.CDLL(None, use_errno=True)
    answer = ctypes.create_string_buffer(_STATFS_BYTES)
    if library.statfs(os.fsencode(directory), answer) != 0:
        return ""
    kind = ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF  # f_type comes first
    return _MEMORY_FILE_SYSTEMS.get(kind, "")


def _check_directory(directory: Path) -> None:
    if not directory.is_dir():
        raise UsageError(
            f"Expected the paging directory to exist, got {printable(str(directory))!r}.",
            code="paging_directory_missing",
            hint="Create it, or leave paging_directory out.",
        )


def _on_ram(directory: Path, kind: str) -> UsageError:
    return UsageError(
        f"The paging directory {printable(str(directory))!r} is on {kind}: a file there would take "
        "RAM instead of giving it.",
        code="paging_on_ram",
        hint="Give paging_directory a directory on a disk or a flash card.",
        details={"file_system": kind},
    )
