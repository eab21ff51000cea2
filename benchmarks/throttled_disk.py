"""A disk that is made slow for the processes of this one: the kernel's own throttling (cgroup v1 blkio).

    with throttled_disk(250_000_000):
        process = subprocess.Popen(...)    # reads and writes at that for as long as it lives

Invariant: when the block ends this process is back in the group in which it was. The group goes when
nobody is left in it, at the end of this process at the latest.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poet_core.errors import ReplayError
from poet_runtime.flash.paging_directory import choose_paging_directory

_ROOT = Path("/sys/fs/cgroup/blkio")


@contextmanager
def throttled_disk(bytes_per_second: int) -> Iterator[None]:
    """Limits reads and writes, each, of the disk under the paging directory. Raises ReplayError
    (`no_throttling`) where this machine cannot."""
    own = next(
        (line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()
         if "blkio" in line.split(":", 2)[1].split(",")),
        None,
    )  # fmt: skip
    group = _ROOT / f"poet-{os.getpid()}-{time.monotonic_ns():x}"
    if own is None or not os.access(_ROOT, os.W_OK):
        raise ReplayError("No disk can be throttled here.", code="no_throttling")
    number = choose_paging_directory(None).stat().st_dev
    group.mkdir()
    try:
        for name in ("read_bps_device", "write_bps_device"):
            limit = f"{os.major(number)}:{os.minor(number)} {bytes_per_second}"
            (group / f"blkio.throttle.{name}").write_text(limit)
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (_ROOT / own.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        atexit.register(_remove, group)


def _remove(group: Path) -> None:
    with suppress(OSError):  # somebody is left in it, or it has gone
        group.rmdir()
