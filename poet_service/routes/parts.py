"""The parts of a running service, put together once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from poet_service.body import Bodies
from poet_service.database.store import Store
from poet_service.execution.executor import Executor
from poet_service.jobs.desk import Jobs
from poet_service.jobs.followed import Follower
from poet_service.jobs.frontier_desk import Frontiers
from poet_service.jobs.frontier_views import FrontierViews
from poet_service.jobs.judged import JudgedPlans
from poet_service.jobs.records import JobRecord
from poet_service.metrics import Metrics
from poet_service.poller import Poller
from poet_service.security.limits import StreamPlaces
from poet_service.security.tokens import Caller
from poet_service.settings import Settings
from poet_service.streams import EventStream
from poet_service.threads import Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the routes work with."""

    settings: Settings
    store: Store
    executor: Executor
    threads: Threads
    poller: Poller
    bodies: Bodies
    jobs: Jobs
    frontiers: Frontiers
    places: StreamPlaces
    metrics: Metrics

    def stream(self, caller: Caller, job: JobRecord, cursor: list[int]) -> EventStream:
        """A response with the events of a job after `cursor`."""
        follower = Follower(self.store, self.threads, self.poller, self.settings, job)
        return EventStream(
            follower.frames(cursor),
            place=self._place(caller),
            send_seconds=self.settings.stream_send_seconds,
        )

    @contextmanager
    def _place(self, caller: Caller) -> Iterator[None]:
        with self.places.hold(caller), self.metrics.streams.track_inprogress():
            yield


def assemble(settings: Settings, *, store: Store, executor: Executor) -> Parts:
    """The parts of a service over a store and an executor."""
    threads = Threads(database=settings.database_threads, work=settings.work_threads)
    poller = Poller(
        lambda since: threads.database(store.changed, since), seconds=settings.poll_seconds
    )
    judged = JudgedPlans(store, most_bytes=settings.remembered_bytes)
    jobs = Jobs(
        store=store,
        executor=executor,
        settings=settings,
        threads=threads,
        poller=poller,
        judged=judged,
    )
    frontiers = Frontiers(
        store=store,
        executor=executor,
        settings=settings,
        threads=threads,
        poller=poller,
        jobs=jobs,
        views=FrontierViews(store, judged),
    )
    return Parts(
        settings=settings,
        store=store,
        executor=executor,
        threads=threads,
        poller=poller,
        bodies=Bodies(settings),
        jobs=jobs,
        frontiers=frontiers,
        places=StreamPlaces(
            per_caller=settings.streams_per_token,
            most=settings.streams,
            retry_after_seconds=settings.retry_after_seconds,
        ),
        metrics=Metrics(store),
    )
