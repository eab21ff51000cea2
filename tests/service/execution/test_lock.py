"""The lock of a state folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from poet_core.errors import ServiceError, UsageError
from poet_service.execution.lock import LOCK_NAME, StateLock

_HOLDER = """
import sys, time
from pathlib import Path
from poet_service.execution.lock import StateLock
lock = StateLock(Path(sys.argv[1]))
lock.take()
print("taken", flush=True)
time.sleep(1000)
"""


def test_a_second_one_is_refused_with_the_number_of_the_first(tmp_path: Path) -> None:
    first, second = StateLock(tmp_path / "state"), StateLock(tmp_path / "state")
    first.take()
    with pytest.raises(UsageError) as refused:
        second.take()
    assert refused.value.code == "state_in_use"
    assert f"process {os.getpid()}" in refused.value.message
    first.release()
    second.take()
    second.release()


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "taken\n"
        with pytest.raises(UsageError, match=str(holder.pid)):
            StateLock(tmp_path).take()
        holder.kill()
        holder.wait()
    lock = StateLock(tmp_path)
    lock.take()
    lock.release()
    assert (tmp_path / LOCK_NAME).read_text() == ""


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServiceError) as refused:
        StateLock(tmp_path / "file").take()
    assert refused.value.code == "state_unusable"
