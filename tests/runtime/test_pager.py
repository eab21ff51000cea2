"""The pager against real files and injected faults."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.errors import ReplayError
from poet_runtime import pager as pager_module
from poet_runtime.measured_peak import measure_peak
from poet_runtime.pager import Pager

MIB = 2**20


@pytest.fixture
def pager(tmp_path: Path) -> Iterator[Pager]:
    pager = Pager(8 * MIB, tmp_path)
    yield pager
    pager.close()


def pager_threads() -> int:
    return sum(thread.name == "poet-pager" for thread in threading.enumerate())


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


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


def test_flipped_bit_on_disk_is_flash_corrupt_and_stays_so(pager: Pager) -> None:
    tensor = torch.zeros(1000)
    pager.wait(pager.page_out(3, 4096, tensor))
    os.pwrite(pager.fileno(), b"\x01", 4096 + 1234)
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(3, 4096, torch.empty(1000)))
    assert caught.value.code == "flash_corrupt"
    assert caught.value.details["storage"] == 3
    with pytest.raises(ReplayError) as again:
        pager.wait(pager.page_out(4, 0, tensor))
    assert again.value.code == "flash_corrupt"


def test_reading_what_was_never_written_is_flash_corrupt(pager: Pager) -> None:
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(10)))
    assert caught.value.code == "flash_corrupt"


@pytest.mark.parametrize(
    ("number", "code"), [(errno.EIO, "flash_io"), (errno.ENOSPC, "flash_full")]
)
@pytest.mark.parametrize("call", ["pwrite", "preadv"])
def test_disk_fault_reaches_whoever_waits(
    pager: Pager, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: str
) -> None:
    def fail(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    tensor = torch.ones(5000)
    pager.wait(pager.page_out(0, 0, tensor))
    monkeypatch.setattr(pager_module.os, call, fail)
    pager.page_out(0, 0, tensor)
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(5000)))
    assert caught.value.code == code
    assert caught.value.details["errno"] == number


def test_any_other_fault_of_the_thread_is_heard_of_too(
    pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise ValueError("not expected by anyone")

    monkeypatch.setattr(pager_module.zlib, "crc32", fail)
    with pytest.raises(ReplayError, match="not expected by anyone"):
        pager.wait(pager.page_out(0, 0, torch.ones(10)))


def test_short_writes_are_completed(pager: Pager, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(
        pager_module.os, "pwrite", lambda file, data, offset: write(file, data[:1000], offset)
    )
    tensor, back = torch.randn(5000), torch.empty(5000)
    pager.page_out(0, 0, tensor)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(tensor, back)


def test_file_too_large_for_the_disk_is_flash_full_at_creation(tmp_path: Path) -> None:
    before = open_files(), pager_threads()
    with pytest.raises(ReplayError) as caught:
        Pager(2**60, tmp_path)
    assert caught.value.code == "flash_full"
    assert (open_files(), pager_threads()) == before


def test_directory_that_cannot_be_written_is_flash_io(tmp_path: Path) -> None:
    with pytest.raises(ReplayError) as caught:
        Pager(4096, tmp_path / "nowhere")
    assert caught.value.code == "flash_io"


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


def test_tickets_are_done_in_order(pager: Pager, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []
    write = os.pwrite

    def slow(file: int, data: memoryview, offset: int) -> int:
        time.sleep(0.02 if offset == 0 else 0)
        order.append(offset)
        return write(file, data, offset)

    monkeypatch.setattr(pager_module.os, "pwrite", slow)
    pager.page_out(0, 0, torch.ones(10))
    pager.wait(pager.page_out(1, 4096, torch.ones(10)))
    assert order == [0, 4096]
