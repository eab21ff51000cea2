"""Looking at a pager from outside, for its tests: its file, its thread, a disk that follows a script."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_file import FlashOptions
from tests.runtime.disk_parts import At, scripted

MIB = 2**20


def with_script(folder: Path, script: At, **options: Any) -> Pager:
    return Pager(8 * MIB, folder, FlashOptions(open_disk=scripted(script), **options))


def flip(pager: Pager, at: int) -> None:
    """Changes a byte in the file, behind the pager's back."""
    with Path(f"/proc/self/fd/{pager.fileno()}").open("r+b", buffering=0) as file:
        file.seek(pager.file.begin + at)
        (byte,) = file.read(1)
        file.seek(pager.file.begin + at)
        file.write(bytes([byte ^ 1]))


def pager_threads() -> int:
    return sum(thread.name == "poet-pager" for thread in threading.enumerate())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
