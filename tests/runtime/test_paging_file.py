"""Named paging files: what an earlier run left is found and never read; what is not ours is left."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from poet_core.errors import ReplayError, UsageError
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_directory import (
    check_paging_file,
    choose_paging_place,
    memory_file_system,
)
from poet_runtime.flash.paging_file import FlashOptions, open_paging_file

MIB = 2**20


def named(path: Path, **options: bool) -> FlashOptions:
    return FlashOptions(file=path, **options)  # type: ignore[arg-type]


def left_behind(path: Path) -> bytes:
    """A file as a killed process leaves it; returns what it held behind the header."""
    code = f"""
        import os, signal, torch
        from pathlib import Path
        from poet_runtime.flash.pager import Pager
        from poet_runtime.flash.paging_file import FlashOptions
        pager = Pager({MIB}, Path({str(path.parent)!r}), FlashOptions(file={str(path)!r}))
        pager.wait(pager.page_out(0, 0, torch.full((1000,), 7.0)))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    return path.read_bytes()[4096:]


def test_a_named_file_is_private_and_goes_when_the_pager_does(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    pager = Pager(MIB, tmp_path, named(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_blocks * 512 >= MIB
    pager.wait(pager.page_out(0, 0, torch.ones(1000)))
    back = torch.empty(1000)
    pager.wait(pager.page_in(0, 0, back))
    assert back.eq(1).all()
    pager.close()
    assert not path.exists()


def test_the_file_of_a_killed_run_is_taken_over_and_never_read(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    old = left_behind(path)
    assert torch.full((10,), 7.0).numpy().tobytes() in old
    path.chmod(0o644)
    pager = Pager(MIB, tmp_path, named(path))
    assert pager.file.stale_run
    assert pager.file.stale_run != pager.file.run_id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(path.read_bytes()[4096:])  # nothing of it is even there
    with pytest.raises(ReplayError, match="expected none") as caught:
        pager.wait(pager.page_in(0, 0, torch.empty(1000)))
    assert caught.value.code == "flash_corrupt"
    pager.close()


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    with pytest.raises(UsageError) as caught:
        Pager(MIB, tmp_path, named(path))
    assert caught.value.code == "paging_file_foreign"
    assert path.read_text() == "years of work"
    Pager(MIB, tmp_path, named(path, overwrite=True)).close()
    assert not path.exists()


def test_two_runs_never_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "paging"
    first = Pager(MIB, tmp_path, named(path))
    with pytest.raises(UsageError) as caught:
        Pager(MIB, tmp_path, named(path))
    assert caught.value.code == "paging_file_busy"
    first.wait(first.page_out(0, 0, torch.ones(10)))
    first.close()


def test_a_directory_or_a_pipe_is_no_paging_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError) as caught:
        open_paging_file(MIB, tmp_path, named(tmp_path / "pipe"))
    assert caught.value.code == "paging_file_kind"
    with pytest.raises(ReplayError) as failed:
        open_paging_file(MIB, tmp_path, named(tmp_path))
    assert failed.value.code == "flash_io"


def test_a_raw_device_is_checked_and_used(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"\0" * 4 * MIB)
    made = subprocess.run(
        ["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False
    ) if Path("/dev/loop-control").exists() else None  # fmt: skip
    if made is None or made.returncode:
        pytest.skip("no loop device can be made here")
    device = Path(made.stdout.strip())
    try:
        with pytest.raises(UsageError) as caught:
            Pager(4 * MIB, tmp_path, named(device))
        assert caught.value.code == "paging_file_small"
        pager = Pager(3 * MIB, check_paging_file(device, allow_ram=True), named(device))
        pager.page_out(0, 4096, torch.arange(1000.0))
        back = torch.empty(1000)
        pager.wait(pager.page_in(0, 4096, back))
        assert torch.equal(back, torch.arange(1000.0))
        pager.close()
        assert device.exists()
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


def test_a_named_file_in_ram_is_refused_unless_asked_for() -> None:
    shared = Path("/dev/shm")
    if memory_file_system(shared) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    with pytest.raises(UsageError) as caught:
        choose_paging_place(None, named(shared / "paging"))
    assert caught.value.code == "paging_on_ram"
    assert choose_paging_place(None, named(shared / "paging", allow_ram=True)) == shared
    assert choose_paging_place(shared, FlashOptions(allow_ram=True)) == shared


def test_a_file_system_without_direct_transfers_is_used_through_the_page_cache() -> None:
    shared = Path("/dev/shm")
    if memory_file_system(shared) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    pager = Pager(MIB, shared)
    tensor = torch.randn(5000)
    pager.page_out(0, 0, tensor)
    back = torch.empty(5000)
    pager.wait(pager.page_in(0, 0, back))
    assert torch.equal(back, tensor)
    pager.close()


def test_direct_can_be_declined(tmp_path: Path) -> None:
    file = open_paging_file(MIB, tmp_path, FlashOptions(direct=False))
    assert not file.flash.direct
    file.remove()


@pytest.mark.parametrize("wrong", [{"stall_seconds": 0.0}, {"endurance_bytes": 0}])
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        FlashOptions(**wrong)  # type: ignore[arg-type]
    assert caught.value.code == "flash_options"
