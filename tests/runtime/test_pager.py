"""The pager on real files: what goes out comes back, and nothing is left behind."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from poet_core.errors import ReplayError
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.flash_file import SystemDisk, address_of
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.memory.measured_peak import measure_peak
from tests.runtime.disk_parts import At
from tests.runtime.pager_parts import MIB, flip, open_files, pager_threads, with_script


@pytest.fixture(params=["direct", "buffered"])
def options(request: pytest.FixtureRequest) -> FlashOptions:
    return FlashOptions(direct=request.param == "direct")


@pytest.fixture
def pager(tmp_path: Path, options: FlashOptions) -> Iterator[Pager]:
    pager = Pager(8 * MIB, tmp_path, options)
    yield pager
    pager.close()


def test_what_goes_out_comes_back(pager: Pager) -> None:
    tensors = [torch.randn(1000 + 7 * k) for k in range(20)]
    for k, tensor in enumerate(tensors):
        pager.page_out(k, k * 8192, tensor)
    for k, tensor in reversed(list(enumerate(tensors))):
        back = torch.empty_like(tensor)
        pager.wait(pager.page_in(k, k * 8192, back))
        assert torch.equal(back, tensor)


def test_a_view_stands_for_its_whole_storage(pager: Pager) -> None:
    whole = torch.randn(100)
    pager.page_out(0, 0, whole[10:20])
    back = torch.empty(100)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(back, whole)


def test_a_write_may_change_the_memory_once_its_ticket_is_done(pager: Pager) -> None:
    tensor = torch.arange(MIB, dtype=torch.int32)
    pager.wait(pager.page_out(0, 0, tensor))
    tensor.zero_()
    back = torch.empty_like(tensor)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(back, torch.arange(MIB, dtype=torch.int32))


@pytest.mark.parametrize("size", [1, 4096, 4097, 3 * MIB + 5])
@pytest.mark.parametrize("skew", [0, 8, 64, 512])
def test_any_length_from_any_memory(pager: Pager, size: int, skew: int) -> None:
    """Through the page cache or past it, in place or through the buffer."""
    buffers = [bytearray(size + 8192) for _ in range(2)]
    begins = [-address_of(buffer) % 4096 + skew for buffer in buffers]
    out, back = (
        torch.frombuffer(buffer, dtype=torch.uint8, offset=begin, count=size)
        for buffer, begin in zip(buffers, begins, strict=True)
    )
    out.copy_(torch.randint(0, 256, (size,), dtype=torch.uint8))
    flash, begin = pager.file.flash, pager.file.begin
    flash.write(out.data_ptr(), size, begin)
    flash.read(back.data_ptr(), size, begin)
    assert torch.equal(back, out)
    around = memoryview(buffers[1])
    assert not any(around[: begins[1]])
    assert not any(around[begins[1] + size :])


def test_neighbours_are_left_alone(pager: Pager) -> None:
    tensors = [torch.randint(0, 256, (4097 + k,), dtype=torch.uint8) for k in range(8)]
    for k in (3, 1, 0, 2, 5, 7, 6, 4):
        pager.page_out(k, k * 8192, tensors[k])
    for k, tensor in enumerate(tensors):
        back = torch.empty_like(tensor)
        pager.wait(pager.page_in(k, k * 8192, back))
        assert torch.equal(back, tensor)


@pytest.mark.parametrize("kind", [kind for kind in Checksums if kind is not Checksums.NONE])
def test_every_kind_of_checksum_accepts_what_is_right(tmp_path: Path, kind: Checksums) -> None:
    pager = Pager(20 * MIB, tmp_path, FlashOptions(checksums=kind))
    tensor = torch.randn(4 * MIB + 3)
    for _ in range(3):
        pager.page_out(0, 0, tensor)
        back = torch.empty_like(tensor)
        pager.wait(pager.page_in(0, 0, back))
        assert torch.equal(back, tensor)
    pager.close()


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("call", ["write", "read"])
def test_short_calls_are_completed(tmp_path: Path, call: str, direct: bool) -> None:
    script = At("short", call, stays=True)
    pager = with_script(tmp_path, script, direct=direct)
    tensor, back = torch.randn(50_000), torch.empty(50_000)
    pager.page_out(0, 0, tensor)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(tensor, back)
    assert script.seen > 2
    pager.close()


def test_a_copy_can_be_had_in_pieces(pager: Pager) -> None:
    tensor = torch.randint(0, 256, (3 * MIB + 77,), dtype=torch.uint8)
    pager.page_out(5, 8192, tensor)
    pieces: list[bytes] = []
    pager.lane.call(
        lambda: pieces.extend(bytes(piece) for piece in pager.pieces(5, 8192, 3 * MIB + 77)),
        "reading",
    )
    assert b"".join(pieces) == tensor.numpy().tobytes()
    flip(pager, 8192 + 2 * MIB)

    def read_all() -> None:
        for _ in pager.pieces(5, 8192, 3 * MIB + 77):
            pass

    with pytest.raises(ReplayError) as caught:
        pager.lane.call(read_all, "reading")
    assert caught.value.code == "flash_corrupt"
    with pytest.raises(ReplayError):  # and the pager is faulty from then on
        pager.wait(pager.page_out(0, 0, torch.ones(10)))


def test_bytes_are_counted_in_blocks(pager: Pager) -> None:
    pager.page_out(0, 0, torch.ones(10))
    pager.page_out(1, 4096, torch.ones(1025))
    pager.wait(pager.page_in(0, 0, torch.empty(10)))
    assert (pager.bytes_written, pager.bytes_read) == (3 * 4096, 4096)


def test_space_is_taken_at_creation_and_the_file_has_no_name(tmp_path: Path) -> None:
    pager = Pager(3 * MIB, tmp_path)
    assert os.fstat(pager.fileno()).st_blocks * 512 >= 3 * MIB
    assert not list(tmp_path.iterdir())
    pager.close()


def test_close_ends_thread_and_file_and_may_be_repeated(tmp_path: Path) -> None:
    before = open_files(), pager_threads()
    pager = Pager(MIB, tmp_path)
    pager.page_out(0, 0, torch.ones(1000))
    assert (open_files(), pager_threads()) == (before[0] + 1, before[1] + 1)
    pager.close()
    pager.close()
    assert (open_files(), pager_threads()) == before
    with pytest.raises(ReplayError, match="closed"):
        pager.page_out(0, 0, torch.ones(1000))


def test_a_forgotten_pager_is_cleaned_up(tmp_path: Path) -> None:
    before = open_files(), pager_threads()
    pager = Pager(MIB, tmp_path)
    pager.wait(pager.page_out(0, 0, torch.ones(1000)))
    del pager
    gc.collect()
    assert (open_files(), pager_threads()) == before


def test_the_thread_keeps_no_buffer_alive(pager: Pager) -> None:
    def run() -> None:
        tensor = torch.ones(MIB)
        pager.wait(pager.page_out(0, 0, tensor))
        del tensor
        back = torch.empty(MIB)
        pager.wait(pager.page_in(0, 0, back))
        del back

    measured = measure_peak(lambda: None, run)
    assert measured.peak_bytes == 4 * MIB
    assert measured.end_bytes == 0


def test_tickets_are_done_in_order(tmp_path: Path) -> None:
    order: list[int] = []

    class Slow(SystemDisk):
        def write(self, parts: Sequence[memoryview], offset: int) -> int:
            time.sleep(0.02 if len(order) == 1 else 0)
            order.append(offset)
            return super().write(parts, offset)

    pager = Pager(MIB, tmp_path, FlashOptions(open_disk=Slow))
    begin = pager.file.begin
    pager.page_out(0, 0, torch.ones(10))
    pager.wait(pager.page_out(1, 4096, torch.ones(10)))
    assert order == [0, begin, begin + 4096]
    pager.close()


def test_memory_that_the_probe_calls_aligned_is_taken_in_place(tmp_path: Path) -> None:
    """The probe must be right: a refusal later would mean it had not reached the disk."""
    seen: list[int] = []

    class Looking(SystemDisk):
        def write(self, parts: Sequence[memoryview], offset: int) -> int:
            seen.append(address_of(parts[0]))
            return super().write(parts, offset)

    pager = Pager(8 * MIB, tmp_path, FlashOptions(open_disk=Looking))
    if not pager.file.flash.direct:
        pytest.skip("the file system of the temporary directory has no direct transfers")
    buffer = bytearray(2 * MIB)
    address = address_of(buffer) + -address_of(buffer) % 4096
    for skew in (0, 64, 512):
        seen.clear()
        pager.file.flash.write(address + skew, MIB, pager.file.begin)
        assert len(seen) == 1  # refused once, it would have come again through the buffer
    pager.file.flash.write(address, MIB, pager.file.begin)
    assert seen[-1] == address
    pager.close()
