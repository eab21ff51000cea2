"""Temporary folders of solves, and the sweeping of those whose process died.

    ROOT/                    0700
      making                 locked while a folder is made or the others are looked at
      process-x8dk2q/        one a process
        lives                locked as long as that process lives, whatever its number or container
        solve-7f1k9w/        one a solve: TMPDIR and working directory of its processes

Invariant: a folder whose `lives` nobody holds belongs to nobody; `sweep` removes it, and no other.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAKING, _LIVES = "making", "lives"
_PREFIX = "process-"
# Processes that were killed a moment ago may still write (their watchers look five times a second).
_REMOVE_SECONDS = 3.0
_PAUSE_SECONDS = 0.05


class ProcessFolders:
    """The folder of this process below `root`, and the solves' folders in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: Path | None = None
        self._lives: int | None = None

    def open(self) -> None:
        """Sweep what the dead have left, then make this process's own folder."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._root / _MAKING):
            self.sweep()
            self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root))
            self._lives = os.open(self._folder / _LIVES, os.O_WRONLY | os.O_CREAT, 0o600)
            fcntl.flock(self._lives, fcntl.LOCK_EX)

    def sweep(self) -> None:
        """Remove the folders of processes that are no more; `making` is locked."""
        for folder in self._root.glob(f"{_PREFIX}*"):
            if folder != self._folder and not _is_held(folder / _LIVES):
                remove(folder)

    @contextmanager
    def solve(self) -> Iterator[Path]:
        """A folder for one solve, removed on the way out."""
        assert self._folder is not None
        folder = Path(tempfile.mkdtemp(prefix="solve-", dir=self._folder))
        try:
            yield folder
        finally:
            remove(folder)

    def close(self) -> None:
        """Remove this process's folder."""
        if self._folder is not None and self._lives is not None:
            remove(self._folder)
            os.close(self._lives)
            self._folder = self._lives = None


def remove(folder: Path) -> None:
    """Remove a folder of which processes that are about to end may still hold on."""
    deadline = time.monotonic() + _REMOVE_SECONDS
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or time.monotonic() > deadline:
            return
        time.sleep(_PAUSE_SECONDS)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
