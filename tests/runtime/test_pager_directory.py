"""A paging file on a RAM disk is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from poet_core.errors import UsageError
from poet_runtime.flash.paging_directory import choose_paging_directory, memory_file_system

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def tmpfs() -> Path:
    mounts = Path("/proc/mounts").read_text() if Path("/proc/mounts").exists() else ""
    if " /dev/shm tmpfs " not in mounts:
        pytest.skip("/dev/shm is no tmpfs here")
    return SHARED_MEMORY


def test_tmpfs_is_refused_with_a_hint(tmpfs: Path) -> None:
    assert memory_file_system(tmpfs) == "tmpfs"
    with pytest.raises(UsageError) as caught:
        choose_paging_directory(tmpfs)
    assert caught.value.code == "paging_on_ram"
    assert caught.value.details == {"file_system": "tmpfs"}
    assert "disk" in caught.value.hint


def test_a_disk_is_taken(tmp_path: Path) -> None:
    if memory_file_system(tmp_path):
        pytest.skip("the temporary directory is on a RAM disk")
    assert choose_paging_directory(str(tmp_path)) == tmp_path


def test_the_default_avoids_a_temporary_directory_in_ram(
    tmpfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if memory_file_system(Path("/var/tmp")):
        pytest.skip("/var/tmp is on a RAM disk as well")
    monkeypatch.setattr(tempfile, "tempdir", str(tmpfs))
    assert choose_paging_directory() == Path("/var/tmp")


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        choose_paging_directory(tmp_path / "missing")
    assert caught.value.code == "paging_directory_missing"
