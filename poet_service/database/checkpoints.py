"""Checkpointer: SQLite's log is copied into its database beside the writers, not by one of them.

SQLite leaves it to whichever commit finds a megabyte or four in the log, and that one waits for the
disk: every fourth post of a large graph took a hundred times as long as the others. Here a thread
does it, at most every `_EVERY_SECONDS` and only after something was written. The commit that finds
`MOST_PAGES` in the log still does it itself, so the log stays bounded whatever happens to the thread.

    note     after each commit; starts the thread with the first
    close    ends it; what is left is copied when the last connection closes
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

# 32 MiB of pages of 4 KiB.
MOST_PAGES = 8192
# After the power fails, so much may be missing.
_EVERY_SECONDS = 2.0


class Checkpointer:
    """Of one database file, for one process. Every method may be called from any thread."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._written = threading.Event()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def note(self) -> None:
        """Something was written."""
        if not self._written.is_set():
            self._written.set()
            self._start()

    def close(self) -> None:
        """Return when the thread has ended. Nothing may be noted any more."""
        self._closed.set()
        self._written.set()
        with self._starting:
            if self._thread is not None:
                self._thread.join()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="poet-checkpoints", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while self._written.wait() and not self._closed.wait(_EVERY_SECONDS):
            self._written.clear()
            # A disk that is full or gone is for the writers to see; they are told.
            with contextlib.suppress(sqlite3.Error):
                self._checkpoint()

    def _checkpoint(self) -> None:
        # A file that is gone is not made again.
        address = f"{Path(self._file).absolute().as_uri()}?mode=rw"
        opened = sqlite3.connect(address, uri=True, isolation_level=None)
        with contextlib.closing(opened) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
