"""The pager: storages to a tier and back, by tickets, each copy under its checksum.

A page_out reads the tensor's own memory while the program goes on; whoever needs the outcome waits
for its ticket. Each copy's checksum is taken on the way out and verified on the way in. Where the
copies lie is the tier's business (`tiers`), how the thread gets at the tensors that of `reach`.

Invariants: what comes in is what this pager wrote for that storage, or the wait raises; after a
fault every later wait raises that fault, nothing hangs (see io_lane); the thread holds no memory
of a transfer that it has reported done.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch

from poet_core.errors import ReplayError
from poet_runtime.flash.checksums import Checksums, Digest, new_digest
from poet_runtime.flash.flash_file import address_of, blocks_of, memory_view
from poet_runtime.flash.host_memory import HostMemoryTier
from poet_runtime.flash.io_lane import IoLane, disk_fault
from poet_runtime.flash.paging_file import FlashOptions, PagingFile
from poet_runtime.flash.reach import PIECE_BYTES, InPlace, Reach
from poet_runtime.flash.streams import Mark
from poet_runtime.flash.tiers import FileTier, Tier

_STREAM_BYTES = 2**20


@dataclass(slots=True)
class _Job:
    """One transfer; `memory` is alive until the job is dropped."""

    outward: bool
    storage: int
    offset: int
    size_bytes: int
    memory: torch.UntypedStorage
    mark: Mark


@dataclass(slots=True)
class _Shared:
    """What transfers share; it holds no Pager, so that a forgotten Pager can be collected."""

    tier: Tier
    reach: Reach
    kind: Checksums
    progress: Callable[[], None]
    checksums: dict[int, tuple[int, int]] = field(default_factory=dict)
    writes: int = 0
    bytes_written: int = 0
    bytes_read: int = 0


class Pager:
    """Moves storages between RAM and a file in `directory`; tickets count transfers from 1.

    `reach`: for tensors that are not in the host's memory. Raises what `open_paging_file` does on
    creation, and at the wait for a transfer ReplayError: `flash_full`, `flash_io`, `flash_corrupt`
    or `flash_stalled`. A faulty pager stays faulty.
    """

    def __init__(
        self,
        size_bytes: int,
        directory: Path,
        options: FlashOptions | None = None,
        *,
        reach: Reach | None = None,
    ) -> None:
        options = options or FlashOptions()
        tier = FileTier(size_bytes, directory, options)
        self._begin(tier, options, Checksums.SUMS, reach or InPlace())

    @classmethod
    def in_memory(cls, size_bytes: int, options: FlashOptions) -> Self:
        """A pager whose copies lie in the host's memory. Raises ReplayError
        (`host_memory_full`)."""
        return cls.on(HostMemoryTier(size_bytes), options, Checksums.NONE)

    @classmethod
    def on(cls, tier: Tier, options: FlashOptions, usual: Checksums = Checksums.SUMS) -> Self:
        """A pager on any tier, which it gives back at its end."""
        pager = cls.__new__(cls)
        pager._begin(tier, options, usual, InPlace())
        return pager

    def _begin(self, tier: Tier, options: FlashOptions, usual: Checksums, reach: Reach) -> None:
        self.lane = IoLane(options.stall_seconds)
        self.lane.at_end(tier.end)
        self.lane.at_end(reach.end)
        kind = options.checksums or usual
        self._state = _Shared(tier, reach, kind, self.lane.progress())

    @property
    def tickets(self) -> int:
        """Transfers submitted so far: the ticket of the newest."""
        return self.lane.submitted

    @property
    def tier(self) -> Tier:
        """Where the copies lie."""
        return self._state.tier

    @property
    def file(self) -> PagingFile:
        """The paging file, where the tier is one."""
        tier = self._state.tier
        assert isinstance(tier, FileTier), "asked only of pagers on a file"
        return tier.file

    @property
    def host_bytes(self) -> int:
        """RAM of the host that the pager takes, beside any plan."""
        return self._state.tier.host_bytes + self._state.reach.host_bytes

    @property
    def bytes_written(self) -> int:
        """Bytes that have gone out, in whole blocks: what the flash bears."""
        return self._state.bytes_written

    @property
    def bytes_read(self) -> int:
        """Bytes that have come in, in whole blocks."""
        return self._state.bytes_read

    def page_out(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts writing the whole storage under `tensor` to `offset`; returns the ticket."""
        return self._submit(True, storage, offset, tensor)

    def page_in(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts filling the whole storage under `tensor` from `offset`; returns the ticket."""
        return self._submit(False, storage, offset, tensor)

    def wait(self, ticket: int) -> None:
        """Returns when the transfer and all before it are done, or raises the first fault."""
        self.lane.wait(ticket)

    def drain(self) -> None:
        """Waits for everything that was submitted."""
        self.wait(self.tickets)

    def quiet(self) -> None:
        """See Paging: a transfer keeps its memory alive by itself."""

    def pieces(self, storage: int, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """A storage's copy, piece by piece, for who may not take it into RAM whole; only within
        `lane.call`. A piece is good until the next one. Raises ReplayError after the last piece
        where the checksum is wrong; that, or a read error, is the pager's fault from then on."""
        state = self._state
        with mmap.mmap(-1, _STREAM_BYTES) as buffer:
            address = address_of(buffer)
            digest = _digest_to_verify(state, storage)
            try:
                for done in range(0, size_bytes, _STREAM_BYTES):
                    count = min(_STREAM_BYTES, size_bytes - done)
                    state.tier.read(address, count, offset + done)
                    piece = memory_view(address, count)
                    digest.update(piece)
                    state.progress()
                    yield piece
                _verify(state, storage, digest)
            except OSError as error:
                fault = disk_fault(error, f"reading storage {storage}")
                self.lane.fail(fault)
                raise fault from error
            except ReplayError as error:
                self.lane.fail(error)
                raise

    def fileno(self) -> int:
        """The descriptor of the paging file."""
        return self.file.flash.disk.fileno()

    def close(self) -> None:
        """Ends the thread after the transfers at hand and gives the room back. May be repeated."""
        self.lane.close()

    def _submit(self, outward: bool, storage: int, offset: int, tensor: torch.Tensor) -> int:
        memory, state = tensor.untyped_storage(), self._state
        job = _Job(outward, storage, offset, memory.nbytes(), memory, state.reach.mark())
        what = f"{'writing' if outward else 'reading'} storage {storage}"
        return self.lane.submit(lambda: _transfer(state, job), what)


def _transfer(shared: _Shared, job: _Job) -> None:
    if job.outward:
        # Half a write leaves no copy that would be believed.
        shared.checksums.pop(job.storage, None)
        shared.writes += 1
        digest = new_digest(shared.kind, shared.writes)
        _move(shared, job, digest)
        shared.checksums[job.storage] = shared.writes, digest.value()
        shared.bytes_written += blocks_of(job.size_bytes)
        return
    digest = _digest_to_verify(shared, job.storage)
    _move(shared, job, digest)
    shared.bytes_read += blocks_of(job.size_bytes)
    _verify(shared, job.storage, digest)


def _move(shared: _Shared, job: _Job, digest: Digest) -> None:
    tier, reach = shared.tier, shared.reach
    for done in range(0, job.size_bytes, PIECE_BYTES):
        count = min(PIECE_BYTES, job.size_bytes - done)
        if job.outward:
            address = reach.fetch(job.memory, done, count, job.mark)
        else:
            address = reach.room(job.memory, done)
            tier.read(address, count, job.offset + done)
        digest.update(memory_view(address, count))
        if job.outward:
            tier.write(address, count, job.offset + done)
        else:
            reach.put(job.memory, done, count, job.mark)
        shared.progress()


def _digest_to_verify(shared: _Shared, storage: int) -> Digest:
    write, _ = shared.checksums.get(storage, (0, 0))
    return new_digest(shared.kind, write)


def _verify(shared: _Shared, storage: int, digest: Digest) -> None:
    found, known = digest.value(), shared.checksums.get(storage)
    if known is None or found != known[1]:
        raise ReplayError(
            f"Storage {storage} came back from flash with checksum {found:#x}; expected "
            + ("none to be there." if known is None else f"{known[1]:#x}."),
            code="flash_corrupt",
            hint="The flash or its driver lost data: train again from a checkpoint, elsewhere.",
            details={"storage": storage},
        )
