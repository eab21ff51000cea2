"""The reconciler's rules, each by itself, on a queue and a store of plain dictionaries."""

import asyncio
from dataclasses import dataclass, field

import pytest

from poet_core.errors import ServiceError
from poet_service.execution.distributed_queue import QueuedJob
from poet_service.execution.distributed_reconcile import Reconciled, Reconciler
from poet_service.jobs.records import SolveRecord
from poet_service.jobs.states import MOST_ATTEMPTS, SolveState

SETTLE_SECONDS = 10.0


def record(solve_id: str, attempt: int) -> SolveRecord:
    return SolveRecord(
        id=solve_id, tenant="local", state=SolveState.RUNNING, attempt=attempt, worker="w",
        created_at=0.0, started_at=0.0, finished_at=None, heartbeat_at=0.0, wall_seconds=60.0,
        cost=None, bound=None, gap=None, elapsed_seconds=None, plan_bytes=0, error=None,
        stop_requested=False, last_seq=1, log_bytes=0,
    )  # fmt: skip


@dataclass
class Store:
    """States and attempts of solves, with the Store's compare-and-set."""

    states: dict[str, SolveState] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def queued(self, limit: int) -> list[str]:
        waiting = [key for key, state in self.states.items() if state is SolveState.QUEUED]
        return waiting[:limit]

    def running(self) -> list[SolveRecord]:
        return [
            record(key, self.attempts[key])
            for key, state in self.states.items()
            if state is SolveState.RUNNING
        ]

    def lost(self, solve_id: str, attempt: int) -> SolveState | None:
        if self.states[solve_id] is not SolveState.RUNNING or self.attempts[solve_id] != attempt:
            return None
        again = attempt < MOST_ATTEMPTS
        self.states[solve_id] = SolveState.QUEUED if again else SolveState.FAILED
        return self.states[solve_id]


@dataclass
class Queue:
    """Jobs by id; `away` is an outage."""

    held: dict[int, QueuedJob] = field(default_factory=dict)
    deferred: list[str] = field(default_factory=list)
    away: bool = False

    async def jobs(self, lost_seconds: float) -> list[QueuedJob]:
        if self.away:
            raise ServiceError("The database is away.", code="database_unavailable")
        return list(self.held.values())

    async def defer(self, solve_id: str) -> bool:
        self.deferred.append(solve_id)
        self.put(solve_id)
        return True

    async def release(self, job_id: int) -> None:
        del self.held[job_id]

    async def forget_workers(self, silent_seconds: float) -> None:
        pass

    def put(self, solve_id: str, *, taken: bool = False, stalled: bool = False) -> None:
        job_id = max(self.held, default=0) + 1
        self.held[job_id] = QueuedJob(
            job_id=job_id, solve_id=solve_id, taken=taken, stalled=stalled, worker_id=1
        )


class Scene:
    """A store, a queue and a clock."""

    def __init__(self) -> None:
        self.store, self.queue, self.now = Store(), Queue(), 0.0
        self.reconciler = Reconciler(
            self.store,
            self.queue,
            lost_seconds=30.0,
            settle_seconds=SETTLE_SECONDS,
            monotonic=lambda: self.now,
        )

    def solve(self, solve_id: str, state: SolveState, attempt: int = 0) -> None:
        self.store.states[solve_id], self.store.attempts[solve_id] = state, attempt

    def after(self, seconds: float) -> Reconciled:
        self.now += seconds
        return asyncio.run(self.reconciler.reconcile())


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_queued_solve_without_a_job_is_deferred_at_once_and_only_once(scene: Scene) -> None:
    scene.solve("s", SolveState.QUEUED)
    assert scene.after(0).deferred == ("s",)
    assert scene.after(0).deferred == ()
    assert scene.queue.deferred == ["s"]


def test_a_running_solve_with_a_living_worker_is_left_alone(scene: Scene) -> None:
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.queue.put("s", taken=True)
    for _ in range(3):
        done = scene.after(SETTLE_SECONDS)
        assert done == Reconciled(deferred=(), lost=(), released=())


@pytest.mark.parametrize("has_job", [True, False])
def test_a_running_solve_without_a_worker_is_queued_again_once_and_then_fails(
    scene: Scene, has_job: bool
) -> None:
    for attempt in range(1, MOST_ATTEMPTS + 1):
        scene.solve("s", SolveState.RUNNING, attempt=attempt)
        scene.queue.held.clear()
        if has_job:
            scene.queue.put("s", taken=True, stalled=True)
        assert scene.after(0).lost == ()
        assert scene.after(SETTLE_SECONDS / 2).lost == ()
        assert scene.after(SETTLE_SECONDS / 2).lost == ("s",)
        again = attempt < MOST_ATTEMPTS
        assert scene.store.states["s"] is (SolveState.QUEUED if again else SolveState.FAILED)
        jobs = [job.taken for job in scene.queue.held.values()]
        assert jobs == ([False] if again else [])


def test_a_job_that_waits_behind_a_dead_workers_job_does_not_hide_the_loss(scene: Scene) -> None:
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.queue.put("s", taken=True, stalled=True)
    scene.queue.put("s")
    scene.after(0)
    assert scene.after(SETTLE_SECONDS).lost == ("s",)
    assert [job.taken for job in scene.queue.held.values()] == [False]
    assert scene.queue.deferred == []


def test_a_worker_that_died_between_fetching_and_claiming_leaves_nothing_behind(
    scene: Scene,
) -> None:
    scene.solve("s", SolveState.QUEUED)
    scene.queue.put("s", taken=True, stalled=True)
    assert scene.after(0).deferred == ()
    done = scene.after(SETTLE_SECONDS)
    assert (done.released, done.deferred) == ((1,), ("s",))


def test_a_job_of_an_ended_solve_under_a_silent_worker_is_released(scene: Scene) -> None:
    scene.solve("s", SolveState.FINISHED, attempt=1)
    scene.queue.put("s", taken=True, stalled=True)
    scene.after(0)
    assert scene.after(SETTLE_SECONDS).released == (1,)
    assert scene.store.states["s"] is SolveState.FINISHED
    assert scene.queue.deferred == []


def test_after_an_outage_silence_is_listened_to_anew(scene: Scene) -> None:
    """PostgreSQL was restarted: every worker's heartbeat is old, and the next one is on its way."""
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.queue.put("s", taken=True, stalled=True)
    scene.after(0)
    scene.queue.away = True
    with pytest.raises(ServiceError):
        scene.after(SETTLE_SECONDS)
    scene.queue.away = False
    assert scene.after(0).lost == ()
    scene.queue.held.clear()
    scene.queue.put("s", taken=True)
    assert scene.after(2 * SETTLE_SECONDS).lost == ()


def test_a_worker_that_spoke_again_begins_a_new_silence(scene: Scene) -> None:
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.queue.put("s", taken=True, stalled=True)
    scene.after(0)
    scene.queue.held.clear()
    scene.queue.put("s", taken=True)
    scene.after(SETTLE_SECONDS)
    scene.queue.held.clear()
    scene.queue.put("s", taken=True, stalled=True)
    assert scene.after(SETTLE_SECONDS).lost == ()


def test_a_new_attempt_is_not_blamed_for_the_silence_of_the_last_one(scene: Scene) -> None:
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.after(0)
    scene.solve("s", SolveState.RUNNING, attempt=2)
    assert scene.after(SETTLE_SECONDS).lost == ()


def test_a_solve_that_another_process_took_care_of_is_not_reported(scene: Scene) -> None:
    scene.solve("s", SolveState.RUNNING, attempt=1)
    scene.after(0)
    read = scene.store.running

    def then_it_finished() -> list[SolveRecord]:
        running = read()
        scene.solve("s", SolveState.FINISHED, attempt=1)
        return running

    scene.store.running = then_it_finished  # type: ignore[method-assign]
    assert scene.after(SETTLE_SECONDS) == Reconciled(deferred=(), lost=(), released=())
    assert scene.queue.deferred == []
