"""What paging costs on this machine: the `host` profile with its flash measured.

Transfers go the way that training's go: through the pager and its one thread, past the page cache
where the system allows it, checksums included, while another thread multiplies matrices, as a step
does. Writes and reads take turns; the first round, which meets blocks that were never written, is
not counted.

Invariant: what is measured is the place that was asked for, through the options that training
would use; a profile says of each such number where it comes from.
"""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch

from poet_core.device import DeviceProfile, Source
from poet_core.devices import load_device
from poet_core.units import format_bytes
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_directory import choose_paging_place
from poet_runtime.flash.paging_file import FlashOptions

_LARGE_BYTES, _LARGE = 8 * 2**20, 4  # of a transfer, and how many go one after the other
_SMALL_BYTES, _SMALL = 4096, 16
_ROUNDS = 8  # 256 MiB each way
_ENOUGH_SECONDS = 1.0  # no further round is begun after so long
_MATRIX = 256  # 0.3 ms a product at 1e11 FLOP/s: other threads get at the interpreter that often


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashSpeed:
    """Seconds that a transfer takes: latency plus bytes at a rate. `direct`: past the page cache;
    `moved_bytes`: each way, for this measurement."""

    page_in_latency_seconds: float
    page_in_bytes_per_second: float
    page_out_latency_seconds: float
    page_out_bytes_per_second: float
    direct: bool
    moved_bytes: int


def calibrated_host(
    directory: str | os.PathLike[str] | None = None,
    options: FlashOptions | None = None,
    *,
    aligned: bool = True,
) -> DeviceProfile:
    """The profile `host` with the flash of a paging directory measured, once for each process.

    `aligned`: to and from memory that every disk takes, as the arena's is; without it torch's own
    in this process, which may have to go through a buffer (`flash_file`).
    Raises UsageError (`paging_directory_missing`, `paging_on_ram`, `paging_file_...`) and
    ReplayError (`flash_full`, `flash_io`).
    """
    place = None if directory is None else str(Path(directory).resolve())
    return _calibrated(place, options or FlashOptions(), aligned)


def measure_flash(
    directory: str | os.PathLike[str] | None = None,
    options: FlashOptions | None = None,
    *,
    aligned: bool = True,
) -> FlashSpeed:
    """What transfers to and from a paging file take. Arguments and errors as `calibrated_host`."""
    options = options or FlashOptions()
    place = choose_paging_place(directory, options)
    if options.file is not None and not Path(options.file).is_block_device():
        options = replace(options, file=None)  # beside the named file, which is another run's yet
    pager = Pager(_LARGE * _LARGE_BYTES + _SMALL * _SMALL_BYTES, place, options)
    try:
        return _measured(pager, aligned)
    finally:
        pager.close()


def _measured(pager: Pager, aligned: bool) -> FlashSpeed:
    large = _Transfers(pager, _LARGE, _memory(_LARGE_BYTES, aligned), first=0)
    small = _Transfers(pager, _SMALL, _memory(_SMALL_BYTES, aligned), first=_LARGE)
    rounds: list[list[float]] = []
    begun = time.monotonic()
    while len(rounds) <= 1 or (
        len(rounds) <= _ROUNDS and time.monotonic() - begun < _ENOUGH_SECONDS
    ):
        rounds.append(
            _beside_compute(pager, small.writes, small.reads)
            + _beside_compute(pager, large.writes, large.reads)
        )
    small_out, small_in, large_out, large_in = (
        statistics.median(column) for column in zip(*rounds[1:], strict=True)
    )
    out_latency, in_latency = small_out / _SMALL, small_in / _SMALL
    return FlashSpeed(
        page_in_latency_seconds=in_latency,
        page_in_bytes_per_second=_rate(large_in, in_latency),
        page_out_latency_seconds=out_latency,
        page_out_bytes_per_second=_rate(large_out, out_latency),
        direct=pager.file.flash.direct,
        moved_bytes=len(rounds) * _LARGE * _LARGE_BYTES,
    )


def _rate(seconds: float, latency_seconds: float) -> float:
    """Bytes a second of the large transfers, beside what each of them takes whatever its size."""
    moving = max(seconds - _LARGE * latency_seconds, 0.1 * seconds)
    return _LARGE * _LARGE_BYTES / moving


def _memory(size_bytes: int, aligned: bool) -> torch.Tensor:
    """A storage of its own, with pages; aligned as a mapping is, or as torch's allocator has it."""
    if aligned:
        memory = torch.frombuffer(mmap.mmap(-1, size_bytes), dtype=torch.uint8)
    else:
        memory = torch.empty(size_bytes, dtype=torch.uint8, device="cpu")
    return memory.random_()


class _Transfers:
    """Storages of one size, to and from places of their own."""

    def __init__(self, pager: Pager, count: int, memory: torch.Tensor, *, first: int) -> None:
        self._pager, self._memory = pager, memory
        self._storages = range(first, first + count)
        size_bytes = memory.nbytes
        self._offset = {
            s: first * _LARGE_BYTES + i * size_bytes for i, s in enumerate(self._storages)
        }

    def writes(self) -> None:
        for storage in self._storages:
            self._pager.page_out(storage, self._offset[storage], self._memory)

    def reads(self) -> None:
        for storage in self._storages:
            self._pager.page_in(storage, self._offset[storage], self._memory)


def _beside_compute(pager: Pager, *parts: Callable[[], None]) -> list[float]:
    """Seconds of the I/O thread for each part, while this thread computes."""
    stamps: list[float] = []

    def stamp() -> None:
        stamps.append(time.perf_counter())

    lane = pager.lane
    last = lane.submit(stamp, "calibrating")
    for submit in parts:
        submit()
        last = lane.submit(stamp, "calibrating")
    matrix = torch.zeros(_MATRIX, _MATRIX, device="cpu")
    while len(stamps) <= len(parts) and lane.fault is None:
        torch.mm(matrix, matrix)
    lane.wait(last)
    return [after - before for before, after in pairwise(stamps)]


@cache
def _calibrated(directory: str | None, options: FlashOptions, aligned: bool) -> DeviceProfile:
    return host_profile(measure_flash(directory, options, aligned=aligned))


def host_profile(speed: FlashSpeed) -> DeviceProfile:
    """The profile `host` with measured flash."""
    host = load_device("host")
    how = "through the page cache" if not speed.direct else "past the page cache"
    text = (
        f"measured on this machine: {format_bytes(speed.moved_bytes)} each way {how}, through the "
        "runtime's own pager, beside a matrix product"
    )
    fields = ("latency_seconds", "bytes_per_second")
    names = [f"page_{way}_{field}" for way in ("in", "out") for field in fields]
    return replace(
        host,
        title="This machine (op times where the graph has them, flash measured)",
        sources={**host.sources, **dict.fromkeys(names, Source(text=text))},
        **{name: getattr(speed, name) for name in names},
    )
