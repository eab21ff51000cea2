"""The lock of a state folder: one embedded service at a time.

The kernel holds it as long as the process lives, however that ends; what is written in the file is
for people. The file stays: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from poet_core.errors import ServiceError, UsageError
from poet_core.text import printable

LOCK_NAME = "service.lock"
_WRITTEN_BYTES = 100


class StateLock:
    """Held from `take` to `release`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self._descriptor: int | None = None

    def take(self) -> None:
        """Raises UsageError (`state_in_use`), ServiceError (`state_unusable`)."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ServiceError(
                f"The state folder {printable(str(self._path.parent))} cannot be used: "
                f"{error.strerror}.",
                code="state_unusable",
                hint="Give the service's user a folder that it may write (state_dir).",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except BlockingIOError as error:
            raise self._in_use(descriptor) from error
        except OSError:  # a full disk: the lock counts, not the text
            self._descriptor = descriptor
        else:
            self._descriptor = descriptor
        finally:
            if self._descriptor is None:
                os.close(descriptor)

    def release(self) -> None:
        """Let the next one have it."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.truncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def _in_use(self, descriptor: int) -> UsageError:
        holder = os.read(descriptor, _WRITTEN_BYTES).decode("ascii", "replace").strip()
        who = f"process {printable(holder)}" if holder else "another process"
        return UsageError(
            f"The state folder {printable(str(self._path.parent))} is in use by {who}.",
            code="state_in_use",
            hint="One service at a time: end that one, give this one another state_dir, or use "
            "PostgreSQL and as many as you like.",
        )
