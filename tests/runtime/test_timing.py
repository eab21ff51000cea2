"""Op seconds are those of a warm allocator, of this thread, and of operands that the cache lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from poet_runtime.tracing import timing
from poet_runtime.tracing.timing import OpTimer, last_cache_bytes, warm_memory

pytestmark = pytest.mark.alone

LARGE = 64 * 2**20 // 4  # above every size that libc keeps by itself


def _faults_of(call: object) -> int:
    assert callable(call)
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    call()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@pytest.mark.skipif(timing._tunable_libc() is None, reason="no glibc whose memory can be kept")
def test_large_outputs_are_not_faulted_in_while_timed_and_given_back_afterwards() -> None:
    """In a process of its own: what earlier tests have freed may be enough without a fault."""
    check = "from tests.runtime import test_timing; test_timing.check_faults()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", check], env=environment, cwd=root, check=True)


def check_faults() -> None:
    """The test's own part."""

    def make() -> None:
        torch.zeros(LARGE)

    make()
    alone = _faults_of(make)
    with warm_memory(4 * LARGE):
        kept = min(_faults_of(make) for _ in range(3))
    again = _faults_of(make)
    assert alone > 0
    assert kept * 10 < alone
    assert kept * 10 < again


def test_a_user_who_tuned_libc_keeps_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1048576")
    assert timing._tunable_libc() is None
    with warm_memory(4 * LARGE):
        pass


def test_with_one_thread_what_others_do_does_not_count() -> None:
    def work() -> None:
        time.sleep(0.02)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert OpTimer(0).seconds(work, 0) < 0.01
        torch.set_num_threads(2)
        assert OpTimer(0).seconds(work, 0) >= 0.02
    finally:
        torch.set_num_threads(threads)


def test_the_cache_is_swept_for_steps_that_do_not_fit_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    swept: list[int] = []
    monkeypatch.setattr(timing, "_sweep", swept.append)
    assert last_cache_bytes() > 0
    OpTimer(last_cache_bytes()).seconds(lambda: None, 0)
    assert not swept
    OpTimer(last_cache_bytes() + 1).seconds(lambda: None, 0)
    assert swept == [last_cache_bytes()] * 3


def test_timing_may_be_asked_from_any_thread() -> None:
    failed: list[BaseException] = []

    def other() -> None:
        try:
            assert OpTimer(0).seconds(lambda: torch.zeros(LARGE), 4 * LARGE) > 0
        except BaseException as error:  # noqa: BLE001 - seen by the test below
            failed.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert not failed
