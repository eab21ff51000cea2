"""/metrics: what Prometheus reads, in words that its own parser understands."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from poet_core.errors import ServiceError
from poet_service.metrics import Metrics


class Counted:
    def __init__(self, **counts):
        self.counts_ = counts
        self.away = False

    def counts(self):
        if self.away:
            raise ServiceError("Gone.", code="database_unavailable")
        return self.counts_

    def stored_bytes(self):
        return 1234


def samples(metrics):
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_and_timed():
    metrics = Metrics(Counted())
    for seconds in (0.002, 0.2):
        metrics.count_request("GET", "/v1/plans/{plan_id}", 200, seconds)
    metrics.count_request("GET", None, 404, 0.001)
    found = samples(metrics)
    assert found["poet_http_requests_total", "GET", "/v1/plans/{plan_id}", "200"] == 2
    assert found["poet_http_requests_total", "GET", "none", "404"] == 1
    assert found["poet_http_request_seconds_count", "GET", "/v1/plans/{plan_id}"] == 2
    bucket = "poet_http_request_seconds_bucket"
    assert found[bucket, "0.0025", "GET", "/v1/plans/{plan_id}"] == 1
    assert found[bucket, "0.25", "GET", "/v1/plans/{plan_id}"] == 2


def test_the_database_is_asked_at_each_scrape():
    store = Counted(queued=3, running=2)
    metrics = Metrics(store)
    found = samples(metrics)
    assert found["poet_solves", "queued"] == 3
    assert found["poet_solves", "running"] == 2
    assert found["poet_stored_bytes",] == 1234
    assert found["poet_database_up",] == 1
    store.counts_ = {"queued": 4}
    assert samples(metrics)["poet_solves", "queued"] == 4


def test_a_database_that_is_away_leaves_the_rest():
    store = Counted(queued=3)
    store.away = True
    found = samples(Metrics(store))
    assert found["poet_database_up",] == 0
    assert not any(name == "poet_solves" for name, *_ in found)
    assert found["process_resident_memory_bytes",] > 2**20


def test_streams_are_a_gauge():
    metrics = Metrics(Counted())
    metrics.streams.inc()
    assert samples(metrics)["poet_event_streams",] == 1


@pytest.mark.parametrize("number", [1, 2])
def test_two_in_a_process_do_not_collide(number):
    Metrics(Counted()).count_request("GET", None, 200, number)
