"""Child: its limits and surroundings, and that nothing of it survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poet_core.errors import ServiceError
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.nursery import Nursery
from poet_service.execution.protocol import PlanLine, first_line
from poet_service.execution.supervisor import Child, ChildEnd
from tests.service.execution.cases import LIMITS, lives, processes_below, request_bytes, until


def child(
    nursery: Nursery, life: str, limits: ExecutionLimits = LIMITS, wall_seconds: float = 60
) -> Child:
    line = first_line(
        request_bytes(life), None, memory_bytes=limits.memory_bytes, threads=limits.threads
    )
    return Child(nursery, limits, line, wall_seconds)


def until_first_plan(watched: Child) -> None:
    next(one for one in watched.messages() if isinstance(one, PlanLine))


def test_what_it_sees(odd_nursery: Nursery) -> None:
    limits = replace(LIMITS, niceness=1, file_bytes=2**20)
    with child(odd_nursery, "look", limits) as watched:
        for _ in watched.messages():
            pass
        (folder,) = odd_nursery.root.glob("process-*/solve-*")
        seen = json.loads((folder / "seen.json").read_text())
    assert seen["limits"] == {"AS": LIMITS.memory_bytes, "CORE": 0, "FSIZE": 2**20}
    assert seen["folder"] == seen["temporary"] == seen["environment"]["TMPDIR"] == str(folder)
    assert seen["session"] is True
    assert seen["descriptors"] == [0, 1, 2]
    assert seen["niceness"] == os.getpriority(os.PRIO_PROCESS, 0) + 1
    assert seen["environment"].keys() <= {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "TMPDIR"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_ARENA_MAX"),
        *("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE"),
    }
    assert not folder.exists()


def test_nothing_of_it_survives(odd_nursery: Nursery) -> None:
    with child(odd_nursery, "litter") as watched:
        until_first_plan(watched)
        (folder,) = odd_nursery.root.glob("process-*/solve-*")
        # The child, a process of its group, a solver's watcher and the solver in its own session.
        until(lambda: len(processes_below(folder)) == 4)
        watched.kill()
    until(lambda: not processes_below(folder), seconds=10)
    assert not folder.exists()


def test_a_group_is_killed_with_a_leader_that_died(odd_nursery: Nursery) -> None:
    with child(odd_nursery, "litter") as watched:
        until_first_plan(watched)
        (folder,) = odd_nursery.root.glob("process-*/solve-*")
        until(lambda: len(processes_below(folder)) == 4)
        assert watched.process_id is not None
        os.kill(watched.process_id, signal.SIGKILL)
        assert all(one is None for one in watched.messages())
        assert watched.end is ChildEnd.CRASHED
        until(lambda: not processes_below(folder), seconds=10)
    assert not folder.exists()


def test_wall_limit_and_grace_hold(odd_nursery: Nursery) -> None:
    limits = replace(LIMITS, wall_grace_seconds=0.2, stop_seconds=0.2)
    began = time.monotonic()
    with child(odd_nursery, "mute", limits, wall_seconds=0.1) as watched:
        assert all(one is None for one in watched.messages())
    assert watched.end is ChildEnd.OVERRAN
    assert 0.5 < time.monotonic() - began < 20


def test_a_request_larger_than_a_pipe_reaches_a_child_that_reads_late(
    odd_nursery: Nursery,
) -> None:
    line = first_line(request_bytes("answer"), None, memory_bytes=2**30, threads=2)
    long = line[:-2] + b',"padding":"' + b"x" * 2**20 + b'"}\n'
    with Child(odd_nursery, LIMITS, long, 60) as watched:
        said = [one for one in watched.messages() if one is not None]
    assert len(said) == 1
    assert watched.end is ChildEnd.ANSWERED


def test_a_warm_process_that_died_is_replaced(odd_nursery: Nursery) -> None:
    with child(odd_nursery, "deaf") as watched:
        until_first_plan(watched)
        process_id = watched.process_id
        odd_nursery.kill()
        assert all(one is None for one in watched.messages())
    assert watched.end is ChildEnd.LOST
    assert process_id is not None
    until(lambda: not lives(process_id), seconds=10)
    with child(odd_nursery, "answer") as watched:
        assert any(watched.messages())
    assert watched.end is ChildEnd.ANSWERED


@pytest.mark.parametrize("killed", [1, 2])
def test_a_warm_process_that_is_killed_at_its_start_is_started_once_more(
    killed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by chaos: a worker ended because somebody had killed its warm process too early."""
    begin, begun = subprocess.Popen, []

    def begin_or_kill(command: list[str], **named: Any) -> subprocess.Popen[bytes]:
        begun.append(command)
        process = begin(command, **named)
        if len(begun) <= killed:
            process.kill()
        return process

    monkeypatch.setattr("poet_service.execution.nursery.subprocess.Popen", begin_or_kill)
    nursery = Nursery(tmp_path, child="tests.service.execution.odd_child")
    try:
        if killed == 1:
            nursery.start()
            assert nursery.ready() is None
        else:
            with pytest.raises(ServiceError) as refused:
                nursery.start()
            assert refused.value.code == "planner_unavailable"
    finally:
        nursery.close()
    assert len(begun) == 2


def test_a_warm_process_that_is_stuck_is_ended(
    odd_nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poet_service.execution.supervisor._GONE_SECONDS", 0.3)
    with child(odd_nursery, "deaf") as watched:
        until_first_plan(watched)
        process_id = watched.process_id
        assert odd_nursery.process_id is not None
        os.kill(odd_nursery.process_id, signal.SIGSTOP)
        watched.kill()
    assert process_id is not None
    until(lambda: not lives(process_id), seconds=10)
    with child(odd_nursery, "answer") as watched:
        assert any(watched.messages())


def test_many_at_once_from_many_threads(odd_nursery: Nursery) -> None:
    ends: list[ChildEnd] = []

    def one_after_another() -> None:
        for _ in range(5):
            with child(odd_nursery, "answer") as watched:
                for _message in watched.messages():
                    pass
            ends.append(watched.end)

    threads = [threading.Thread(target=one_after_another) for _ in range(4)]
    before = set(Path("/proc/self/fd").iterdir())
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [ChildEnd.ANSWERED] * 20
    assert len(set(Path("/proc/self/fd").iterdir())) <= len(before)
