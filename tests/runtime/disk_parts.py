"""Disks that fail on purpose: the seam of flash_file, with a script instead of luck."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence

from poet_runtime.flash.flash_file import Disk, SystemDisk

Event = tuple[str, str]
"""Which file ("paging file", a checkpoint's name), and the call: reserve, write, read, sync."""

Script = Callable[[Event], str]
"""Says for each call what happens: "" as the system does, or one of the words in ScriptedDisk."""


class ScriptedDisk(SystemDisk):
    """io, full: the error of that name. torn: half is written, then the error. short: half of it is
    moved. half: half is written, then the process is killed; before, after: killed at that side of
    the call. truncate: the file is cut to nothing first. flip: the bytes come in with one bit
    changed."""

    def __init__(self, descriptor: int, name: str, script: Script) -> None:
        super().__init__(descriptor, name)
        self._name, self._script = name, script

    def reserve(self, size_bytes: int) -> None:
        self._begin("reserve")
        super().reserve(size_bytes)

    def write(self, parts: Sequence[memoryview], offset: int) -> int:
        word = self._begin("write")
        if word in {"half", "torn"}:
            super().write([half(parts[0])], offset)
            if word == "half":
                die()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if word == "short":
            return super().write([half(parts[0])], offset)
        count = super().write(parts, offset)
        if word == "after":
            die()
        return count

    def read(self, parts: Sequence[memoryview], offset: int) -> int:
        word = self._begin("read")
        if word == "short":
            return super().read([half(parts[0])], offset)
        count = super().read(parts, offset)
        if word == "flip":
            parts[0][1] ^= 4  # further on may be padding
        if word == "after":
            die()
        return count

    def sync(self) -> None:
        word = self._begin("sync")
        super().sync()
        if word == "after":
            die()

    def _begin(self, call: str) -> str:
        word = self._script((self._name, call))
        if word == "before":
            die()
        if word in {"io", "full"}:
            number = errno.EIO if word == "io" else errno.ENOSPC
            raise OSError(number, os.strerror(number))
        if word == "truncate":
            os.ftruncate(self.fileno(), 0)
        return word


def half(part: memoryview) -> memoryview:
    """The first half of the blocks, at least one."""
    return part[: max(4096, len(part) // 8192 * 4096)]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def scripted(script: Script) -> Callable[[int, str], Disk]:
    """What FlashOptions.open_disk takes."""
    return lambda descriptor, name: ScriptedDisk(descriptor, name, script)


class At:
    """A script that says a word at the n-th call of a kind on a file, and for good if `stays`."""

    def __init__(
        self, word: str, call: str, number: int = 0, *, file: str = "paging file",
        stays: bool = False,
    ) -> None:  # fmt: skip
        self.word, self.call, self.number = word, call, number
        self.file, self.stays, self.seen = file, stays, 0

    def __call__(self, event: Event) -> str:
        if event != (self.file, self.call):
            return ""
        self.seen += 1
        now = self.seen - 1 == self.number or (self.stays and self.seen > self.number)
        return self.word if now else ""
