"""Flash: one preallocated file, one thread that carries out transfers in the order given.

A page_out reads the tensor's own memory while the program goes on; whoever needs the outcome waits
for its ticket. Each copy's checksum is taken on the way out and verified on the way in.

Invariants: the thread holds no memory of a transfer that it has reported done; after a fault every
later wait raises that fault, nothing hangs; the file has no name, so it is gone when the process
is, however that ends.
"""

from __future__ import annotations

import ctypes
import errno
import os
import queue
import tempfile
import threading
import weakref
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import torch

from poet_core.errors import ReplayError
from poet_core.units import format_bytes

_CHECK_ALIVE_SECONDS = 1.0


@dataclass(slots=True)
class _Job:
    """One transfer; `memory` keeps the bytes at `address` alive until the job is dropped."""

    outward: bool
    storage: int
    offset: int
    size_bytes: int
    address: int
    memory: torch.UntypedStorage


@dataclass(slots=True)
class _Lane:
    """What the I/O thread knows; it holds no Pager, so that a forgotten Pager can be collected."""

    file: IO[bytes]
    jobs: queue.SimpleQueue[_Job | None] = field(default_factory=queue.SimpleQueue)
    finished: threading.Condition = field(default_factory=threading.Condition)
    checksums: dict[int, int] = field(default_factory=dict)
    done: int = 0
    fault: ReplayError | None = None


class Pager:
    """Moves storages between RAM and a file in `directory`; tickets count transfers from 1.

    Raises ReplayError: `flash_full` and `flash_io` on creation, and at the wait for a transfer
    `flash_full`, `flash_io` or `flash_corrupt`. A faulty pager stays faulty.
    """

    def __init__(self, size_bytes: int, directory: Path) -> None:
        self._lane = _Lane(file=_create_file(size_bytes, directory))
        self._submitted = 0
        self._thread = threading.Thread(
            target=_serve, args=(self._lane,), name="poet-pager", daemon=True
        )
        self._thread.start()
        self._close = weakref.finalize(self, _shut_down, self._lane, self._thread)

    @property
    def tickets(self) -> int:
        """Transfers submitted so far: the ticket of the newest."""
        return self._submitted

    def page_out(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts writing the whole storage under `tensor` to `offset`; returns the ticket."""
        return self._submit(True, storage, offset, tensor)

    def page_in(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts filling the whole storage under `tensor` from `offset`; returns the ticket."""
        return self._submit(False, storage, offset, tensor)

    def wait(self, ticket: int) -> None:
        """Returns when the transfer and all before it are done, or raises the first fault."""
        lane = self._lane
        if lane.done < ticket:
            with lane.finished:
                while not lane.finished.wait_for(lambda: lane.done >= ticket, _CHECK_ALIVE_SECONDS):
                    if not self._thread.is_alive():
                        raise ReplayError("The I/O thread of the pager is gone.", code="flash_io")
        fault = lane.fault
        if fault is not None:
            # A new one each time: a kept traceback would keep the memory of the frames in it.
            raise ReplayError(
                fault.message, code=fault.code, hint=fault.hint, details=fault.details
            )

    def drain(self) -> None:
        """Waits for everything that was submitted."""
        self.wait(self._submitted)

    def fileno(self) -> int:
        """The descriptor of the paging file."""
        return self._lane.file.fileno()

    def close(self) -> None:
        """Ends the thread after the transfers at hand and gives the file back. May be repeated."""
        self._close()

    def _submit(self, outward: bool, storage: int, offset: int, tensor: torch.Tensor) -> int:
        if not self._close.alive:
            raise ReplayError("The pager is closed.", code="flash_io")
        memory = tensor.untyped_storage()
        job = _Job(outward, storage, offset, memory.nbytes(), memory.data_ptr(), memory)
        self._submitted += 1
        self._lane.jobs.put(job)
        return self._submitted


def _create_file(size_bytes: int, directory: Path) -> IO[bytes]:
    """A file without a name, its blocks allocated: a full disk is met here, not in mid-step."""
    what = f"creating a paging file of {format_bytes(size_bytes)}"
    try:
        file = tempfile.TemporaryFile(  # noqa: SIM115 - the Pager closes it
            dir=directory, prefix="poet-", buffering=0
        )
    except OSError as error:
        raise _disk_fault(error, what) from error
    try:
        if size_bytes:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        file.close()
        raise _disk_fault(error, what) from error
    return file


def _serve(lane: _Lane) -> None:
    """The I/O thread: one job after the other; after a fault it only counts them."""
    while True:
        job = lane.jobs.get()
        if job is None:
            return
        if lane.fault is None:
            lane.fault = _fault_of(lane, job)
        del job  # the last reference of this thread goes before anyone is told
        with lane.finished:
            lane.done += 1
            lane.finished.notify_all()


def _fault_of(lane: _Lane, job: _Job) -> ReplayError | None:
    """Carries out a job. A fault is returned without a traceback, whose frames hold memory."""
    what = f"{'writing' if job.outward else 'reading'} storage {job.storage}"
    try:
        _transfer(lane, job)
    except ReplayError as error:
        return error.with_traceback(None)
    except OSError as error:
        return _disk_fault(error, what)
    except Exception as error:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
        return ReplayError(f"The pager failed while {what}: {error!r}.", code="flash_io")
    return None


def _transfer(lane: _Lane, job: _Job) -> None:
    view = memoryview((ctypes.c_ubyte * job.size_bytes).from_address(job.address)).cast("B")
    descriptor = lane.file.fileno()
    position = 0
    if job.outward:
        lane.checksums[job.storage] = zlib.crc32(view)
        while position < job.size_bytes:
            position += os.pwrite(descriptor, view[position:], job.offset + position)
        return
    while position < job.size_bytes:
        count = os.preadv(descriptor, [view[position:]], job.offset + position)
        if count == 0:
            raise OSError(errno.EIO, "the paging file ends early")
        position += count
    found, expected = zlib.crc32(view), lane.checksums.get(job.storage)
    if found != expected:
        raise ReplayError(
            f"Storage {job.storage} came back from flash with checksum {found:#010x}; expected "
            + ("none to be there." if expected is None else f"{expected:#010x}."),
            code="flash_corrupt",
            hint="The flash or its driver lost data: train again from a checkpoint, elsewhere.",
            details={"storage": job.storage},
        )


def _disk_fault(error: OSError, what: str) -> ReplayError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ReplayError(
        f"The disk failed while {what}: {error.strerror or error}.",
        code="flash_full" if full else "flash_io",
        hint="Give paging_directory a directory with more free space."
        if full
        else "Give paging_directory a directory on another disk.",
        details={"errno": error.errno},
    )


def _shut_down(lane: _Lane, thread: threading.Thread) -> None:
    lane.jobs.put(None)
    if thread is not threading.current_thread():
        thread.join()
    lane.file.close()
