"""Copies in the host's memory: by the I/O thread, and by streams that copy as late as can be."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from poet_core.errors import ReplayError, UsageError
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.host_memory import HostMemoryTier
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging import Paging, open_paging
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.reach import PIECE_BYTES, Staged
from poet_runtime.flash.stream_pager import StreamPager
from poet_runtime.memory.measured_peak import measure_peak
from tests.runtime.stream_parts import CountingLock, LateStreams

MIB = 2**20
CPU = torch.device("cpu")
HOST = FlashOptions(tier="host", allow_ram=True)
Make = Callable[[Path], Paging]


def in_memory(_folder: Path) -> Paging:
    return open_paging(24 * MIB, None, HOST, CPU)


def in_memory_with_sums(_folder: Path) -> Paging:
    options = FlashOptions(tier="host", allow_ram=True, checksums=Checksums.CRC)
    return open_paging(24 * MIB, None, options, CPU)


def by_streams(_folder: Path) -> Paging:
    return StreamPager(24 * MIB, LateStreams(), FlashOptions(tier="host"))


def staged(folder: Path) -> Paging:
    """A file behind a device's memory."""
    return Pager(24 * MIB, folder, reach=Staged(LateStreams()))


EVERY = [in_memory, in_memory_with_sums, by_streams, staged]


@pytest.fixture(params=EVERY)
def pager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Paging]:
    pager = request.param(tmp_path)
    yield pager
    pager.close()


def pager_threads() -> int:
    return sum(thread.name == "poet-pager" for thread in threading.enumerate())


def test_what_goes_out_comes_back(pager: Paging) -> None:
    tensors = [torch.randn(1000 + 7 * k) for k in range(20)]
    for k, tensor in enumerate(tensors):
        pager.page_out(k, k * 8192, tensor)
    for k, tensor in reversed(list(enumerate(tensors))):
        back = torch.empty_like(tensor)
        pager.wait(pager.page_in(k, k * 8192, back))
        assert torch.equal(back, tensor)
    assert pager.tickets == 40
    assert pager.bytes_written == pager.bytes_read == 20 * 8192 - 4096 * 4


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 4097])
def test_any_length_and_a_view_stands_for_its_whole_storage(pager: Paging, size: int) -> None:
    whole = torch.randint(0, 256, (size,), dtype=torch.uint8)
    pager.page_out(0, 4096, whole[size // 2 :])
    back = torch.empty_like(whole)
    pager.wait(pager.page_in(0, 4096, back[:1]))
    assert torch.equal(back, whole)


def test_memory_may_change_and_go_once_its_ticket_is_done(pager: Paging) -> None:
    tensor = torch.arange(MIB, dtype=torch.int32)
    pager.wait(pager.page_out(0, 0, tensor))
    tensor.zero_()
    del tensor
    back = torch.empty(MIB, dtype=torch.int32)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(back, torch.arange(MIB, dtype=torch.int32))


def test_a_copy_may_be_written_over_in_the_same_place(pager: Paging) -> None:
    tensors = [torch.full((1000,), float(storage)) for storage in range(3)]
    for storage, tensor in enumerate(tensors):
        pager.page_out(storage, 0, tensor)
    last = torch.full((1000,), 7.0)
    ticket = pager.page_out(3, 0, last)
    back = torch.empty(1000)
    pager.page_in(3, 0, back)
    pager.wait(ticket + 1)
    assert torch.equal(back, last)


def test_a_copy_can_be_had_in_pieces(pager: Paging) -> None:
    tensor = torch.randint(0, 256, (3 * MIB + 77,), dtype=torch.uint8)
    pager.page_out(5, 8192, tensor)
    pieces: list[bytes] = []
    pager.lane.call(
        lambda: pieces.extend(bytes(piece) for piece in pager.pieces(5, 8192, 3 * MIB + 77)),
        "reading",
    )
    assert b"".join(pieces) == tensor.numpy().tobytes()
    assert max(map(len, pieces)) <= MIB


def test_what_never_went_out_does_not_come_in(pager: Paging) -> None:
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(10)))
    assert caught.value.code == "flash_corrupt"
    assert caught.value.details["storage"] == 0
    with pytest.raises(ReplayError) as again:  # and the fault stays
        pager.wait(pager.page_out(1, 0, torch.ones(10)))
    assert again.value.code == "flash_corrupt"


def test_close_ends_thread_and_may_be_repeated(tmp_path: Path) -> None:
    for make in EVERY:
        before = pager_threads()
        pager = make(tmp_path)
        tensor = torch.ones(1000)
        pager.page_out(0, 0, tensor)
        pager.close()
        pager.close()
        assert pager_threads() == before
        with pytest.raises(ReplayError, match="closed"):
            pager.page_out(0, 0, torch.ones(1000))


def test_a_forgotten_pager_is_cleaned_up(tmp_path: Path) -> None:
    for make in EVERY:
        before = pager_threads()
        pager = make(tmp_path)
        tensor = torch.ones(1000)
        pager.wait(pager.page_out(0, 0, tensor))
        del pager
        gc.collect()
        deadline = time.monotonic() + 10
        while pager_threads() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pager_threads() == before


def test_no_buffer_is_kept_alive_and_pools_are_no_tensors_of_the_step(tmp_path: Path) -> None:
    for make in EVERY:
        pager: list[Paging] = []

        def run(make: Make = make, pager: list[Paging] = pager) -> None:
            pager.append(make(tmp_path))
            tensor = torch.ones(MIB)
            pager[0].wait(pager[0].page_out(0, 0, tensor))
            del tensor
            back = torch.empty(MIB)
            pager[0].wait(pager[0].page_in(0, 0, back))
            del back

        measured = measure_peak(lambda: None, run)
        assert measured.peak_bytes == 4 * MIB
        assert measured.end_bytes == 0
        pager[0].close()


def test_the_hosts_memory_is_counted(tmp_path: Path) -> None:
    assert in_memory(tmp_path).host_bytes == 24 * MIB
    assert by_streams(tmp_path).host_bytes == 24 * MIB
    assert staged(tmp_path).host_bytes == PIECE_BYTES
    assert Pager(MIB, tmp_path).host_bytes == 0


def test_the_whole_pool_is_there_from_the_beginning() -> None:
    def resident_kib() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    if not Path("/proc/self/status").exists():
        pytest.skip("the resident set is read from /proc/self/status, which is not here")
    before = resident_kib()
    tier = HostMemoryTier(64 * MIB)
    assert resident_kib() - before >= 60 * 1024
    tier.end()
    del tier
    gc.collect()
    assert resident_kib() - before < 30 * 1024


def test_a_pool_larger_than_the_address_space_is_host_memory_full() -> None:
    for lock, size in ((None, 2**60), (CountingLock(refuse=True), MIB)):
        with pytest.raises(ReplayError) as caught:
            HostMemoryTier(size, lock)
        assert caught.value.code == "host_memory_full"
        assert caught.value.details == {"size_bytes": size}


def test_pages_are_locked_until_the_last_copy_is_over(tmp_path: Path) -> None:
    lock, streams = CountingLock(), LateStreams()
    pager = StreamPager(MIB, streams, FlashOptions(tier="host"), lock)
    assert list(lock.locked.values()) == [MIB]
    tensor = torch.ones(1000)
    pager.page_out(0, 0, tensor)
    assert streams.done == 0
    pager.close()
    assert streams.done == 1
    assert not lock.locked
    file_pager = Pager(MIB, tmp_path, reach=Staged(streams, lock))
    assert list(lock.locked.values()) == [PIECE_BYTES]
    file_pager.close()
    assert not lock.locked


def test_the_program_waits_for_no_copy_before_it_must() -> None:
    streams = LateStreams()
    pager = StreamPager(MIB, streams, FlashOptions(tier="host"))
    tensors = [torch.full((100,), float(k)) for k in range(4)]
    tickets = [pager.page_out(k, k * 4096, tensor) for k, tensor in enumerate(tensors)]
    pager.wait(tickets[1])
    assert (streams.issued, streams.done, streams.held) == (4, 2, 1)
    pager.wait(tickets[0])  # over already: nothing to hold
    assert streams.held == 1
    pager.wait(pager.tickets)
    assert streams.done == 4
    pager.close()


def test_the_late_streams_find_out_who_frees_or_writes_too_early() -> None:
    """What the tests above rest on must be able to say no."""
    pager = StreamPager(MIB, LateStreams(), FlashOptions(tier="host"))
    tensor = torch.ones(1000)
    ticket = pager.page_out(0, 0, tensor)
    tensor.zero_()
    pager.wait(ticket)
    back = torch.empty(1000)
    pager.wait(pager.page_in(0, 0, back))
    assert not back.any()  # not what went out
    ticket = pager.page_out(0, 0, torch.ones(1000))
    with pytest.raises(AssertionError, match="given back"):
        pager.wait(ticket)


class FaultyTier(HostMemoryTier):
    """Memory that fails as a disk does."""

    fail = ""

    def write(self, address: int, size_bytes: int, offset: int) -> None:
        if self.fail == "write":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().write(address, size_bytes, offset)

    def read(self, address: int, size_bytes: int, offset: int) -> None:
        if self.fail == "flip":
            self.pool[offset] ^= 1
        super().read(address, size_bytes, offset)


def test_a_tier_that_fails_is_heard_of_by_whoever_waits() -> None:
    tier = FaultyTier(MIB)
    pager = Pager.on(tier, FlashOptions())
    pager.wait(pager.page_out(0, 0, torch.ones(100)))
    tier.fail = "write"
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_out(0, 0, torch.ones(100)))
    assert caught.value.code == "flash_io"
    tier.fail = ""
    with pytest.raises(ReplayError):  # for good
        pager.wait(pager.page_out(0, 0, torch.ones(100)))
    pager.close()


def test_checksums_in_memory_are_taken_where_they_are_asked_for() -> None:
    for kind, noticed in ((Checksums.SUMS, True), (Checksums.NONE, False)):
        tier = FaultyTier(MIB)
        pager = Pager.on(tier, FlashOptions(tier="host", checksums=kind))
        pager.wait(pager.page_out(0, 0, torch.ones(100)))
        tier.fail = "flip"
        back = torch.empty(100)
        if noticed:
            with pytest.raises(ReplayError) as caught:
                pager.wait(pager.page_in(0, 0, back))
            assert caught.value.code == "flash_corrupt"
        else:
            pager.wait(pager.page_in(0, 0, back))
            assert not torch.equal(back, torch.ones(100))
        pager.close()


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        open_paging(MIB, None, FlashOptions(tier="host"), CPU)
    assert caught.value.code == "paging_on_ram"
    for bad in (
        {"tier": "tape"}, {"tier": "host", "file": "a"}, {"checksums": Checksums.NONE},
    ):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            FlashOptions(**bad)  # type: ignore[arg-type]
        assert caught.value.code == "flash_options"
    with pytest.raises(UsageError) as caught:
        StreamPager(MIB, LateStreams(), FlashOptions(checksums=Checksums.CRC))
    assert caught.value.code == "flash_options"
