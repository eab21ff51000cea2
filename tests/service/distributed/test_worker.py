"""SolveWorker and ProcrastinateExecutor on a real PostgreSQL, with solves that take no solver."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

from poet_service.database.engine import open_store
from poet_service.database.store import Store
from poet_service.execution.distributed import ProcrastinateExecutor
from poet_service.execution.distributed_worker import SolveWorker
from poet_service.jobs.records import QueueLimits
from poet_service.jobs.states import SolveState
from poet_service.settings import Settings
from tests.service.postgres import PostgresServer

pytestmark = pytest.mark.slow

WAIT_SECONDS = 120.0


@dataclass
class Runs:
    """What a worker runs: a claim, as long as it is told to, and an end."""

    store: Store
    begun: list[tuple[str, int]] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    fault: Exception | None = None

    def __call__(self, solve_id: str, leaving: threading.Event) -> SolveState | None:
        record = self.store.claim(solve_id, "test")
        if record is None:
            return None
        self.begun.append((solve_id, record.attempt))
        if self.fault is not None:
            raise self.fault
        while not (self.hold.is_set() or leaving.is_set()):
            time.sleep(0.02)
        if leaving.is_set():
            self.store.release(solve_id, record.attempt)
            return SolveState.QUEUED
        self.store.finish(solve_id, record.attempt, b"{}", 1.0, 1.0, 0.0, 0.1)
        return SolveState.FINISHED


@dataclass
class Scene:
    store: Store
    runs: Runs
    settings: Settings

    def posted(self) -> str:
        """A queued solve, as POST leaves it before it tells the executor."""
        return self.store.submit(
            job_id=secrets.token_hex(16), token_id=0, tenant="local", key=secrets.token_bytes(32),
            request=b"{}", wall_seconds=60.0, idempotency=None, warm_start=None,
            limits=QueueLimits(queue_depth=100, active_jobs_of_token=100),
        ).solve.id  # fmt: skip

    def state(self, solve_id: str) -> SolveState:
        record = self.store.solve(solve_id)
        assert record is not None
        return record.state

    async def until(self, solve_id: str, *states: SolveState) -> None:
        await until(lambda: self.state(solve_id) in states)

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[SolveWorker]:
        worker = SolveWorker(self.store, self.settings, self.runs, name="test")
        ready = asyncio.Event()
        working = asyncio.create_task(worker.work(lambda _: ready.set()))
        await asyncio.wait_for(ready.wait(), WAIT_SECONDS)
        try:
            yield worker
        finally:
            self.runs.hold.set()
            worker.end()
            await asyncio.wait_for(working, WAIT_SECONDS)

    @contextlib.asynccontextmanager
    async def executor(self) -> AsyncIterator[ProcrastinateExecutor]:
        executor = ProcrastinateExecutor(self.store, self.settings)
        await executor.start()
        try:
            yield executor
        finally:
            await executor.close()


@pytest.fixture
def scene(postgres_url: str) -> Iterator[Scene]:
    settings = Settings(
        database=postgres_url, solves=1, worker_heartbeat_seconds=0.3, worker_lost_seconds=3.0,
        reconcile_seconds=0.3, worker_grace_seconds=0.5,
    )  # fmt: skip
    store = open_store(postgres_url)
    try:
        yield Scene(store=store, runs=Runs(store), settings=settings)
    finally:
        store.close()


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def played() -> None:
        await scene()

    asyncio.run(played())


def jobs(scene: Scene) -> list[tuple[str, str]]:
    """Solve and status of every job in the queue."""
    with psycopg.connect(scene.settings.database_url) as connection:
        return connection.execute(
            "SELECT args->>'solve_id', status::text FROM procrastinate_jobs"
        ).fetchall()


def test_told_twice_is_run_once(scene: Scene) -> None:
    async def played() -> None:
        async with scene.executor() as executor:
            solve_id = scene.posted()
            for _ in range(3):
                await executor.submit(solve_id)
            assert jobs(scene) == [(solve_id, "todo")]
            assert executor.ready() is None
            scene.runs.hold.set()
            async with scene.worker():
                await scene.until(solve_id, SolveState.FINISHED)
                await executor.submit(solve_id)  # late news of what has ended
                await until(lambda: jobs(scene) == [])
        assert scene.runs.begun == [(solve_id, 1)]

    play(played)


def test_a_solve_that_nobody_was_told_of_is_found(scene: Scene) -> None:
    """The API process died between the Store's commit and the queue's."""

    async def played() -> None:
        solve_id = scene.posted()
        scene.runs.hold.set()
        async with scene.worker():
            await scene.until(solve_id, SolveState.FINISHED)
        assert scene.runs.begun == [(solve_id, 1)]

    play(played)


def test_a_restart_of_the_database_costs_a_running_solve_nothing(
    scene: Scene, postgres_server: PostgresServer
) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        async with scene.worker():
            await scene.until(solve_id, SolveState.RUNNING)
            await asyncio.to_thread(postgres_server.stop, immediate=True)
            await asyncio.sleep(2 * scene.settings.worker_lost_seconds)
            await asyncio.to_thread(postgres_server.start)
            # Long enough for a reconciler that believes old heartbeats.
            await asyncio.sleep(2 * scene.settings.worker_lost_seconds)
            assert scene.state(solve_id) is SolveState.RUNNING
            scene.runs.hold.set()
            await scene.until(solve_id, SolveState.FINISHED)
            await until(lambda: jobs(scene) == [])
            scene.runs.hold.set()
            after = scene.posted()
            await scene.until(after, SolveState.FINISHED)
        assert scene.runs.begun == [(solve_id, 1), (after, 1)]

    play(played)


def test_a_worker_that_ends_queues_again_what_it_had_not_finished(scene: Scene) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        worker = SolveWorker(scene.store, scene.settings, scene.runs, name="test")
        working = asyncio.create_task(worker.work())
        await scene.until(solve_id, SolveState.RUNNING)
        worker.end()
        await asyncio.wait_for(working, WAIT_SECONDS)
        assert scene.state(solve_id) is SolveState.QUEUED
        scene.runs.hold.set()
        async with scene.worker():
            await scene.until(solve_id, SolveState.FINISHED)
        record = scene.store.solve(solve_id)
        assert record is not None
        assert record.losses == 0

    play(played)


def test_a_worker_that_ends_lets_finish_what_can(scene: Scene) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        worker = SolveWorker(
            scene.store,
            scene.settings.model_copy(update={"worker_grace_seconds": WAIT_SECONDS}),
            scene.runs,
            name="test",
        )
        working = asyncio.create_task(worker.work())
        await scene.until(solve_id, SolveState.RUNNING)
        worker.end()
        another = scene.posted()
        await asyncio.sleep(4 * scene.settings.reconcile_seconds)
        scene.runs.hold.set()
        await asyncio.wait_for(working, WAIT_SECONDS)
        assert scene.state(solve_id) is SolveState.FINISHED
        assert scene.state(another) is SolveState.QUEUED

    play(played)


def test_a_second_signal_ends_the_grace(scene: Scene) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        endless = scene.settings.model_copy(update={"worker_grace_seconds": 3600.0})
        worker = SolveWorker(scene.store, endless, scene.runs, name="test")
        working = asyncio.create_task(worker.work())
        await scene.until(solve_id, SolveState.RUNNING)
        worker.end()
        worker.end()
        await asyncio.wait_for(working, WAIT_SECONDS)
        assert scene.state(solve_id) is SolveState.QUEUED

    play(played)


def test_a_worker_ends_although_the_database_is_away(
    scene: Scene, postgres_server: PostgresServer
) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        worker = SolveWorker(scene.store, scene.settings, scene.runs, name="test")
        working = asyncio.create_task(worker.work())
        await scene.until(solve_id, SolveState.RUNNING)
        await asyncio.to_thread(postgres_server.stop, immediate=True)
        try:
            worker.end()
            await asyncio.wait_for(working, WAIT_SECONDS)
        finally:
            await asyncio.to_thread(postgres_server.start)
        # Nobody could be told; whoever works next finds out.
        assert scene.state(solve_id) is SolveState.RUNNING
        scene.runs.hold.set()
        async with scene.worker():
            await scene.until(solve_id, SolveState.FINISHED)
        assert scene.runs.begun == [(solve_id, 1), (solve_id, 2)]

    play(played)


def test_a_fault_of_the_run_is_a_loss_and_the_worker_goes_on(scene: Scene) -> None:
    async def played() -> None:
        solve_id = scene.posted()
        scene.runs.fault = RuntimeError("a fault of ours")
        async with scene.worker():
            await scene.until(solve_id, SolveState.FAILED)
            scene.runs.fault = None
            scene.runs.hold.set()
            after = scene.posted()
            await scene.until(after, SolveState.FINISHED)
        record = scene.store.solve(solve_id)
        assert record is not None
        assert record.error is not None
        assert record.error["code"] == "worker_lost"
        assert [attempt for found, attempt in scene.runs.begun if found == solve_id] == [1, 2]

    play(played)


def test_a_job_whose_fetch_was_lost_on_the_way_is_given_back(scene: Scene) -> None:
    """In the queue the job is this worker's; the worker has never heard of it."""

    async def played() -> None:
        busy = scene.posted()
        async with scene.worker():
            await scene.until(busy, SolveState.RUNNING)
            waiting = scene.posted()
            await until(lambda: (waiting, "todo") in jobs(scene))
            with psycopg.connect(scene.settings.database_url) as connection:
                connection.execute(
                    "UPDATE procrastinate_jobs SET status = 'doing', worker_id = "
                    "(SELECT worker_id FROM procrastinate_jobs WHERE args->>'solve_id' = %s) "
                    "WHERE args->>'solve_id' = %s",
                    (busy, waiting),
                )
            await until(lambda: (waiting, "todo") in jobs(scene))
            scene.runs.hold.set()
            await scene.until(waiting, SolveState.FINISHED)
        assert scene.runs.begun == [(busy, 1), (waiting, 1)]

    play(played)


def test_a_worker_whose_row_was_pruned_registers_anew(scene: Scene) -> None:
    async def played() -> None:
        scene.runs.hold.set()
        async with scene.worker():
            with psycopg.connect(scene.settings.database_url) as connection:
                connection.execute("DELETE FROM procrastinate_workers")
            solve_id = scene.posted()
            await scene.until(solve_id, SolveState.FINISHED)

    play(played)


def test_a_submission_while_the_database_is_away_is_left_to_the_reconciler(
    scene: Scene, postgres_server: PostgresServer
) -> None:
    async def played() -> None:
        async with scene.executor() as executor:
            solve_id = scene.posted()
            await asyncio.to_thread(postgres_server.stop, immediate=True)
            try:
                await asyncio.wait_for(executor.submit(solve_id), WAIT_SECONDS)
                await until(lambda: executor.ready() is not None)
            finally:
                await asyncio.to_thread(postgres_server.start)
            await until(lambda: jobs(scene) == [(solve_id, "todo")])
            await until(lambda: executor.ready() is None)

    play(played)
