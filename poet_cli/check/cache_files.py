"""The files of the cache: a folder that only we can write to, files whole or not there, a size.

Invariant: nothing here raises for what the disk holds or refuses: what cannot be read is not there,
and what cannot be written is not kept. Runs beside each other may share the folder.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from poet_core.documents import canonical_json
from poet_core.text import printable

MOST_BYTES = 512 * 2**20
# A graph of 50,000 ops is some tens of MiB; more is no file of ours.
_MOST_FILE_BYTES = 256 * 2**20


class CacheFolder:
    """Files by their path inside of one folder, which is made when first written to."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self.trouble = self._distrust()

    def read(self, path: str) -> bytes | None:
        """The content, None where there is none."""
        if self.trouble:
            return None
        try:
            with (self._folder / path).open("rb") as file:
                data = file.read(_MOST_FILE_BYTES + 1)
        except OSError:
            return None
        return data if len(data) <= _MOST_FILE_BYTES else None

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return not self.trouble and (self._folder / path).is_file()

    def newest(self, folder: str) -> list[str]:
        """The files of a folder inside, last used first."""
        if self.trouble:
            return []
        found = _by_use(self._folder / folder)
        return [f"{folder}/{path.name}" for _, _, path in reversed(found)]

    def touch(self, path: str) -> None:
        """It was used."""
        with contextlib.suppress(OSError):
            os.utime(self._folder / path)

    def write_json(self, path: str, document: Any) -> None:
        """Keeps a document."""
        self.write(path, canonical_json(document))

    def write(self, path: str, data: bytes) -> None:
        """Keeps a file, whole or not at all."""
        if self.trouble or len(data) > _MOST_FILE_BYTES:
            return
        target = self._folder / path
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.trouble = self._distrust()
            if self.trouble:
                return
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(target, data)
        except OSError as error:
            self.trouble = (
                f"nothing is kept in {printable(str(self._folder), 300)}: "
                f"{printable(error.strerror or type(error).__name__)}"
            )

    def keep_newest(self, folder: str, most: int) -> None:
        """Of a folder's files, those used last."""
        for _, _, path in _by_use(self._folder / folder)[:-most]:
            with contextlib.suppress(OSError):
                path.unlink()

    def prune(self) -> None:
        """Away with what was used longest ago, until the rest is small enough."""
        if self.trouble:
            return
        found = _by_use(self._folder, "**/*")
        total = sum(size for _, size, _ in found)
        for _, size, path in found:
            if total <= self._most_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _distrust(self) -> str:
        """Why what is in the folder may be somebody else's; "" where it is ours or not there."""
        try:
            found = self._folder.stat()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"{printable(str(self._folder), 300)} cannot be used: {printable(reason)}"
        if not stat.S_ISDIR(found.st_mode):
            return f"{printable(str(self._folder), 300)} is no folder"
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            return f"others may write to {printable(str(self._folder), 300)}: nothing is kept there"
        return ""


def _by_use(folder: Path, pattern: str = "*") -> list[tuple[int, int, Path]]:
    """Time of last use, size and path of each file, oldest first. Others may remove them meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                info = path.lstat()
                if stat.S_ISREG(info.st_mode):
                    found.append((info.st_mtime_ns, info.st_size, path))
    return sorted(found)


def _replace(target: Path, data: bytes) -> None:
    number, name = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
