"""What Prometheus reads at /metrics, in a registry of its own.

No label holds what a stranger chose: routes are templates, methods and statuses known ones, states
the state machine's. What the database knows is asked when it is scraped, and left out (with
`poet_database_up 0`) where the database does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from poet_core.errors import ServiceError

if TYPE_CHECKING:
    from prometheus_client import Metric

    from poet_service.jobs.states import SolveState

CONTENT_TYPE = CONTENT_TYPE_LATEST
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# From a cached answer (a millisecond) to a long poll.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class CountingStore(Protocol):
    """The part of the Store that is counted."""

    def counts(self) -> Mapping[SolveState, int]:
        """Solves by state."""
        ...

    def stored_bytes(self) -> int:
        """Bytes of requests, plans and logs."""
        ...


class Metrics:
    """The figures of one process."""

    def __init__(self, store: CountingStore) -> None:
        # A second line for every counter, which nobody reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "poet_http_requests",
            "Requests answered; status 0 where the client went away first.",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "poet_http_request_seconds",
            "Seconds from a request's headers to the beginning of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_progress = Gauge(
            "poet_http_requests_in_progress", "Requests being answered.", registry=self._registry
        )
        self.streams = Gauge("poet_event_streams", "Event streams open.", registry=self._registry)
        self._registry.register(_StoreCollector(store))
        ProcessCollector(registry=self._registry)

    def count_request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Count a request that was answered. `route` is the template, None where there was none."""
        method = method if method in _METHODS else "other"
        route = route or "none"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """The text that Prometheus reads. Asks the database: call it in a thread."""
        return generate_latest(self._registry)


class _StoreCollector(Collector):
    def __init__(self, store: CountingStore) -> None:
        self._store = store

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the database."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """What the database says now."""
        up = GaugeMetricFamily("poet_database_up", "Whether the database answered this scrape.")
        solves = GaugeMetricFamily(
            "poet_solves", "Solves by state; those queued are the queue's depth.", labels=("state",)
        )
        stored = GaugeMetricFamily(
            "poet_stored_bytes", "Bytes of requests, plans and logs in the database."
        )
        try:
            counts, stored_bytes = self._store.counts(), self._store.stored_bytes()
        except ServiceError:
            up.add_metric((), 0)
            return (up,)
        up.add_metric((), 1)
        stored.add_metric((), stored_bytes)
        for state, count in counts.items():
            solves.add_metric((str(state),), count)
        return up, solves, stored
