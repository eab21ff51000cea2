"""The pager on disks that fail, stall, lie or are particular: each fault has its name, and stays."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.errors import ReplayError
from poet_runtime.flash import pager as pager_module
from poet_runtime.flash.flash_file import SystemDisk, address_of
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_file import FlashOptions
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


def test_flipped_bit_on_disk_is_flash_corrupt_and_stays_so(pager: Pager) -> None:
    tensor = torch.zeros(1000)
    pager.wait(pager.page_out(3, 4096, tensor))
    flip(pager, 4096 + 1234)
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
@pytest.mark.parametrize("call", ["write", "read"])
def test_disk_fault_reaches_whoever_waits(
    tmp_path: Path, call: str, number: int, code: str
) -> None:
    word = "io" if number == errno.EIO else "full"
    pager = with_script(tmp_path, At(word, call, number=2 if call == "write" else 0))
    tensor = torch.ones(5000)
    pager.wait(pager.page_out(0, 0, tensor))
    pager.page_out(0, 0, tensor)
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(5000)))
    assert caught.value.code == code
    assert caught.value.details["errno"] == number
    pager.close()


def test_a_file_that_was_cut_is_flash_io(tmp_path: Path) -> None:
    pager = with_script(tmp_path, At("truncate", "read"))
    pager.page_out(0, 0, torch.ones(5000))
    with pytest.raises(ReplayError, match="ends early") as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(5000)))
    assert caught.value.code == "flash_io"
    pager.close()


def test_a_bit_that_changes_on_the_way_in_is_flash_corrupt(tmp_path: Path) -> None:
    pager = with_script(tmp_path, At("flip", "read"))
    pager.page_out(0, 0, torch.ones(5000))
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(5000)))
    assert caught.value.code == "flash_corrupt"
    pager.close()


class Silent(SystemDisk):
    """A disk that does not answer until it is told to."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__(descriptor, name)
        self.answer = threading.Event()
        self.closed = threading.Event()

    def read(self, parts: Sequence[memoryview], offset: int) -> int:
        self.answer.wait(30)
        return super().read(parts, offset)

    def close(self) -> None:
        super().close()
        self.closed.set()


def test_a_disk_that_does_not_answer_is_given_up_by_name(tmp_path: Path) -> None:
    before = open_files(), pager_threads()
    pager = Pager(8 * MIB, tmp_path, FlashOptions(stall_seconds=0.2, open_disk=Silent))
    disk = pager.file.flash.disk
    assert isinstance(disk, Silent)
    pager.page_out(0, 0, torch.ones(1000))
    started = time.monotonic()
    with pytest.raises(ReplayError) as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(1000)))
    assert caught.value.code == "flash_stalled"
    pager.close()  # does not wait for the disk either
    assert time.monotonic() - started < 10
    assert not disk.closed.is_set()  # the call that hangs still has the file
    disk.answer.set()
    assert disk.closed.wait(10)
    while pager_threads() > before[1]:
        time.sleep(0.01)
    assert open_files() == before[0]


def test_a_slow_disk_that_gets_on_is_no_fault(tmp_path: Path) -> None:
    class Slow(SystemDisk):
        def write(self, parts: Sequence[memoryview], offset: int) -> int:
            time.sleep(0.05)
            return super().write([parts[0][: 64 * 1024]], offset)

    # 32 writes of 0.05 s: together twice the limit, each far shorter.
    pager = Pager(40 * MIB, tmp_path, FlashOptions(stall_seconds=0.8, open_disk=Slow))
    for k in range(32):
        pager.page_out(k, k * MIB, torch.ones(16 * 1024))
    pager.drain()
    pager.close()


def test_any_other_fault_of_the_thread_is_heard_of_too(
    pager: Pager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise ValueError("not expected by anyone")

    monkeypatch.setattr(pager_module, "new_digest", fail)
    with pytest.raises(ReplayError, match="not expected by anyone"):
        pager.wait(pager.page_out(0, 0, torch.ones(10)))


def test_a_failed_write_leaves_no_copy_that_would_be_believed(tmp_path: Path) -> None:
    pager = with_script(tmp_path, At("io", "write", number=2))
    pager.wait(pager.page_out(0, 0, torch.ones(1000)))
    with pytest.raises(ReplayError):
        pager.wait(pager.page_out(0, 0, torch.zeros(1000)))
    with pytest.raises(ReplayError):
        pager.wait(pager.page_in(0, 0, torch.empty(1000)))
    pager.close()


def test_what_a_call_raises_is_no_fault_of_the_lane(pager: Pager) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "elsewhere")

    with pytest.raises(OSError, match="elsewhere"):
        pager.lane.call(fail, "failing")
    pager.wait(pager.page_out(0, 0, torch.ones(10)))


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


def test_a_disk_that_is_particular_about_memory_is_served_through_the_buffer(
    tmp_path: Path,
) -> None:
    refused: list[int] = []

    class Particular(SystemDisk):
        """Takes memory at whole blocks only, and says so when asked for more."""

        def write(self, parts: Sequence[memoryview], offset: int) -> int:
            self._look(parts)
            return super().write(parts, offset)

        def read(self, parts: Sequence[memoryview], offset: int) -> int:
            self._look(parts)
            return super().read(parts, offset)

        def _look(self, parts: Sequence[memoryview]) -> None:
            if any(address_of(part) % 4096 for part in parts):
                refused.append(1)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    pager = Pager(8 * MIB, tmp_path, FlashOptions(open_disk=Particular))
    if not pager.file.flash.direct:
        pytest.skip("the file system of the temporary directory has no direct transfers")
    buffer = bytearray(2 * MIB)
    begin = -address_of(buffer) % 4096 + 512  # good enough for the probe, not for this disk
    out = torch.frombuffer(buffer, dtype=torch.uint8, offset=begin, count=MIB)
    for _ in range(3):
        out.random_()
        expected = out.clone()
        pager.file.flash.write(out.data_ptr(), MIB, pager.file.begin)
        out.zero_()
        pager.file.flash.read(out.data_ptr(), MIB, pager.file.begin)
        assert torch.equal(out, expected)
    assert len(refused) <= 1
    pager.close()
