"""Temporary folders: swept when their process is no more, left alone while it lives."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from poet_service.execution import folders
from poet_service.execution.folders import ProcessFolders, remove

_HOLDER = """
import sys, time
from pathlib import Path
from poet_service.execution.folders import ProcessFolders
held = ProcessFolders(Path(sys.argv[1]))
held.open()
with held.solve() as folder:
    (folder / "model.mps").write_text("x")
    print(folder, flush=True)
    time.sleep(1000)
"""


def test_a_solves_folder_goes_with_the_solve(tmp_path: Path) -> None:
    opened = ProcessFolders(tmp_path / "solves")
    opened.open()
    with opened.solve() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    assert not folder.exists()
    opened.close()
    assert [path.name for path in (tmp_path / "solves").iterdir()] == ["making"]


def test_folders_of_the_living_stay_and_those_of_the_dead_go(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        folder = Path(holder.stdout.readline().strip())
        other = ProcessFolders(tmp_path)
        other.open()
        assert (folder / "model.mps").exists()
        other.close()
        holder.kill()
        holder.wait()
    assert (folder / "model.mps").exists()
    other = ProcessFolders(tmp_path)
    other.open()
    assert not folder.exists()
    with other.solve() as mine:
        another = ProcessFolders(tmp_path)
        another.open()  # in the same process: locks are of the open file, not of the process
        assert mine.exists()
        another.close()
    other.close()


def test_a_folder_that_is_still_written_to_goes_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "busy"
    folder.mkdir()
    over = time.monotonic() + 0.3

    def write() -> None:
        number = 0
        while time.monotonic() < over:
            number += 1
            # Removed between the two calls, or within the first (then it says that it is there).
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                folder.mkdir(exist_ok=True)
                (folder / f"file{number % 100}").touch()

    writer = threading.Thread(target=write)
    writer.start()
    remove(folder)
    writer.join()
    remove(folder)
    assert not folder.exists()


def test_a_folder_that_cannot_be_removed_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_REMOVE_SECONDS", 0.1)
    monkeypatch.setattr(folders.shutil, "rmtree", lambda *_args, **_named: None)
    began = time.monotonic()
    remove(tmp_path)
    assert time.monotonic() - began < 5
