"""Paging: storages out of the device's memory and back, by tickets, whatever carries them.

    Paging          what replay, parking and checkpoints know
    ├── Pager           an I/O thread moves bytes to and from a tier           (`pager`)
    └── StreamPager     a GPU's copy engine moves them to locked host memory   (`stream_pager`)

Invariant: what comes in is what went out for that storage, or the wait raises.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import torch

from poet_core.errors import UsageError
from poet_runtime.flash.cuda_streams import CudaPageLock, CudaStreams
from poet_runtime.flash.io_lane import IoLane
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_directory import choose_paging_place
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.reach import Staged
from poet_runtime.flash.stream_pager import StreamPager
from poet_runtime.flash.tiers import Tier


class Paging(Protocol):
    """Transfers of whole storages, carried out in the order in which they were asked for."""

    @property
    def lane(self) -> IoLane:
        """The thread on which copies can be read piece by piece, and checkpoints are written."""

    @property
    def tier(self) -> Tier:
        """Where the copies lie."""

    @property
    def tickets(self) -> int:
        """Transfers asked for so far: the ticket of the newest."""

    @property
    def bytes_written(self) -> int:
        """Bytes that have gone out, in whole blocks."""

    @property
    def bytes_read(self) -> int:
        """Bytes that have come in, in whole blocks."""

    @property
    def host_bytes(self) -> int:
        """RAM of the host that paging takes, beside any plan: pools and buffers."""

    def page_out(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts copying the whole storage under `tensor` to `offset`; returns the ticket."""

    def page_in(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """Starts filling the whole storage under `tensor` from `offset`; returns the ticket."""

    def wait(self, ticket: int) -> None:
        """What the program does next happens after the transfer and all before it. Raises the
        first fault."""

    def quiet(self) -> None:
        """After a fault in the program: returns when no transfer touches memory any more that the
        program is about to give back. Raises nothing."""

    def pieces(self, storage: int, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """A storage's copy, piece by piece; only within `lane.call`."""

    def close(self) -> None:
        """Ends it after the transfers at hand and gives the room back. May be repeated."""


def open_paging(
    size_bytes: int,
    directory: str | os.PathLike[str] | None,
    options: FlashOptions,
    device: torch.device,
) -> Paging:
    """Paging for tensors on `device`, to where the options say, with room for `size_bytes`.

    Raises UsageError (`paging_on_ram`, ...) and ReplayError (`flash_full`, `flash_io`,
    `host_memory_full`).
    """
    if device.type == "cuda":
        return _beside_a_gpu(size_bytes, directory, options, device)
    if options.tier == "host":
        if not options.allow_ram:
            raise UsageError(
                "Copies of CPU tensors in the host's memory would take the RAM that the plan "
                "saves.",
                code="paging_on_ram",
                hint="Page to flash, or put model and batch on a GPU.",
            )
        return Pager.in_memory(size_bytes, options)
    return Pager(size_bytes, choose_paging_place(directory, options), options)


def _beside_a_gpu(
    size_bytes: int,
    directory: str | os.PathLike[str] | None,
    options: FlashOptions,
    device: torch.device,
) -> Paging:
    streams, page_lock = CudaStreams(device), CudaPageLock()
    if options.tier == "host":
        return StreamPager(size_bytes, streams, options, page_lock)
    place = choose_paging_place(directory, options)
    return Pager(size_bytes, place, options, reach=Staged(streams, page_lock))
