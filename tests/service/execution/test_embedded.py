"""EmbeddedExecutor: order, stops, shutdown, restarts, deaths; nothing of a dead one survives."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from poet_core.errors import ServiceError, UsageError
from poet_service.database.store import Store
from poet_service.execution.embedded import EmbeddedExecutor
from poet_service.execution.nursery import Nursery
from poet_service.jobs.states import SolveState
from tests.service.execution.cases import (
    LIMITS,
    judged_cost,
    lives,
    processes_below,
    request_bytes,
    submit,
    until,
)
from tests.service.execution.hosts import ODD_CHILD, hosted


@asynccontextmanager
async def executing(
    store: Store, folder: Path, **changed: object
) -> AsyncIterator[EmbeddedExecutor]:
    executor = EmbeddedExecutor(
        store,
        **{
            "folder": folder,
            "limits": LIMITS,
            "reconcile_seconds": 0.2,
            "nursery": Nursery(folder, child=ODD_CHILD),
            **changed,
        },
    )
    await executor.start()
    try:
        yield executor
    finally:
        await executor.close()


async def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.01)


def state_of(store: Store, solve_id: str) -> SolveState:
    record = store.solve(solve_id)
    assert record is not None
    return record.state


def test_solves_are_taken_up_in_order_told_or_not(store: Store, tmp_path: Path) -> None:
    early = [submit(store, request_bytes("answer"))[1] for _ in range(3)]

    async def work() -> None:
        async with executing(store, tmp_path, solves_at_once=1) as executor:
            assert executor.ready() is None
            late = submit(store, request_bytes("answer"))[1]
            await executor.submit(late)
            await executor.submit(late)
            await executor.submit("0" * 32)
            await eventually(lambda: state_of(store, late) is SolveState.FINISHED)
            # Nobody tells of this one.
            silent = submit(store, request_bytes("answer"))[1]
            await eventually(lambda: state_of(store, silent) is SolveState.FINISHED)
            ended = [store.solve(one).finished_at for one in (*early, late, silent)]
            assert ended == sorted(ended)
        assert executor.ready() is not None

    asyncio.run(work())
    assert not list(tmp_path.rglob("process-*"))


def test_as_many_at_once_as_are_allowed(store: Store, tmp_path: Path) -> None:
    held = [submit(store, request_bytes("hold"))[1] for _ in range(3)]

    async def work() -> None:
        async with executing(store, tmp_path, solves_at_once=2) as executor:
            await eventually(lambda: len(store.running()) == 2)
            await asyncio.sleep(0.3)
            assert [one.id for one in store.running()] == held[:2]
            await executor.stop(held[0])
            await eventually(lambda: state_of(store, held[2]) is SolveState.RUNNING)
            assert state_of(store, held[0]) is SolveState.STOPPED
            judged_cost(store, held[0])
            await executor.stop("0" * 32)
            assert state_of(store, held[1]) is SolveState.RUNNING

    asyncio.run(work())


def test_close_queues_what_runs_again_uncounted(store: Store, tmp_path: Path) -> None:
    held = submit(store, request_bytes("deaf"))[1]

    async def work() -> None:
        async with executing(store, tmp_path):
            await eventually(lambda: store.solve(held).has_plan)

    for _ in range(3):
        asyncio.run(work())
        record = store.solve(held)
        assert (record.state, record.losses) == (SolveState.QUEUED, 0)
    assert record.attempt == 3
    judged_cost(store, held)
    assert not processes_below(tmp_path)


def test_a_second_executor_on_the_folder_is_refused(store: Store, tmp_path: Path) -> None:
    async def work() -> None:
        async with executing(store, tmp_path):
            with pytest.raises(UsageError) as refused:
                async with executing(store, tmp_path):
                    pass
            assert refused.value.code == "state_in_use"
            assert str(os.getpid()) in refused.value.message

    asyncio.run(work())
    asyncio.run(work())


def test_a_planner_that_does_not_start_is_said_at_the_start(store: Store, tmp_path: Path) -> None:
    async def work() -> None:
        nursery = Nursery(tmp_path, child="no.such.module")
        with pytest.raises(ServiceError) as refused:
            async with executing(store, tmp_path, nursery=nursery):
                pass
        assert refused.value.code == "planner_unavailable"
        async with executing(store, tmp_path) as executor:  # nothing was kept
            assert executor.ready() is None

    asyncio.run(work())


def test_a_solve_that_nobody_carries_out_is_found(store: Store, tmp_path: Path) -> None:
    lost = submit(store, request_bytes("answer"))[1]

    async def work() -> None:
        async with executing(store, tmp_path):
            await eventually(lambda: state_of(store, lost) is SolveState.FINISHED)
            # An end that the database did not take: it runs, and nobody works on it.
            orphan = submit(store, request_bytes("answer"))[1]
            while store.claim(orphan, "nobody") is None:
                if state_of(store, orphan) is SolveState.FINISHED:  # a thread was faster
                    orphan = submit(store, request_bytes("answer"))[1]
            await eventually(lambda: state_of(store, orphan) is SolveState.FINISHED)
            assert store.solve(orphan).attempt == 2

    asyncio.run(work())


def test_a_database_that_is_away_is_waited_for(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, finish, queued = True, store.finish, store.queued

    def maybe(method):
        def asked(*arguments):
            if away:
                raise ServiceError("Away.", code="database_unavailable")
            return method(*arguments)

        return asked

    async def work() -> None:
        nonlocal away
        away = False
        async with executing(store, tmp_path) as executor:
            away = True
            await eventually(lambda: executor.ready() == "Away.")
            solve = submit(store, request_bytes("answer"))[1]
            monkeypatch.setattr(store, "queued", queued)
            await eventually(lambda: state_of(store, solve) is SolveState.RUNNING)
            await asyncio.sleep(0.3)
            assert state_of(store, solve) is SolveState.RUNNING
            away = False
            await eventually(lambda: state_of(store, solve) is SolveState.FINISHED)
            assert store.solve(solve).attempt == 1
            await eventually(lambda: executor.ready() is None)

    monkeypatch.setattr(store, "finish", maybe(finish))
    monkeypatch.setattr(store, "queued", maybe(queued))
    asyncio.run(work())


def test_solves_wait_while_no_child_can_be_had(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poet_service.execution.embedded._TROUBLE_SECONDS", 0.1)
    nursery = Nursery(tmp_path, child=ODD_CHILD)

    async def work() -> None:
        async with executing(store, tmp_path, nursery=nursery) as executor:
            monkeypatch.setattr(nursery, "_life", "no.such.module")
            nursery.kill()
            solve = submit(store, request_bytes("answer"))[1]
            await eventually(lambda: "planner cannot be used" in (executor.ready() or ""))
            assert state_of(store, solve) in (SolveState.QUEUED, SolveState.RUNNING)
            monkeypatch.setattr(nursery, "_life", ODD_CHILD)
            await eventually(lambda: state_of(store, solve) is SolveState.FINISHED)
            assert store.solve(solve).losses == 0
            await eventually(lambda: executor.ready() is None)

    asyncio.run(work())


def test_nothing_survives_a_host_that_was_killed(store: Store, tmp_path: Path) -> None:
    solve = submit(store, request_bytes("litter"))[1]
    with hosted(tmp_path) as host:
        until(lambda: len(processes_below(tmp_path / "solves")) == 4)
        assert host.warm is not None
        warm = host.warm
    until(lambda: not lives(warm) and not processes_below(tmp_path), seconds=15)
    assert state_of(store, solve) is SolveState.RUNNING
    with hosted(tmp_path) as host:  # sweeps, and begins the solve once more
        until(lambda: len(processes_below(tmp_path / "solves")) == 4)
        assert store.solve(solve).attempt == 2
        assert len(list((tmp_path / "solves").rglob("solve-*"))) == 1
        host.process.send_signal(signal.SIGTERM)
        assert host.process.wait(60) == 0
    assert [path.name for path in (tmp_path / "solves").iterdir()] == ["making"]
    assert (state_of(store, solve), store.solve(solve).losses) == (SolveState.QUEUED, 1)


def test_a_restart_begins_a_solve_once_more_and_then_fails_it(store: Store, tmp_path: Path) -> None:
    solve = submit(store, request_bytes("mute"))[1]
    for attempt in (1, 2):
        with hosted(tmp_path):
            until(lambda: state_of(store, solve) is SolveState.RUNNING)
            assert store.solve(solve).attempt == attempt
    with hosted(tmp_path):
        assert state_of(store, solve) is SolveState.FAILED
    assert store.solve(solve).error["code"] == "worker_lost"


def test_a_second_process_is_refused(store: Store, tmp_path: Path) -> None:
    with hosted(tmp_path) as first:
        command = [sys.executable, "-m", "tests.service.execution.host", str(tmp_path), ODD_CHILD]
        second = subprocess.run(
            [*command, "1"], check=False, capture_output=True, text=True, timeout=100
        )
        assert second.returncode != 0
        assert f"in use by process {first.process.pid}" in second.stderr
