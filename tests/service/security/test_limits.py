"""Places and rates: they run out, say for how long, and come back."""

import pytest

from poet_core.errors import ServiceError
from poet_service.security.limits import ByteBudget, RequestRate, StreamPlaces
from poet_service.security.tokens import Caller


def caller(token_id):
    return Caller(token_id=token_id, tenant="local", scopes=frozenset())


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def refused(code, work, *arguments):
    with pytest.raises(ServiceError) as caught:
        work(*arguments)
    assert caught.value.code == code
    assert caught.value.details["retry_after_seconds"] >= 1
    return caught.value


def test_a_rate_is_of_one_caller_and_refills():
    clock = Clock()
    rate = RequestRate(per_second=0.5, burst=3, clock=clock)
    for _ in range(3):
        rate.take(caller(1))
    assert refused("too_many_requests", rate.take, caller(1)).details["retry_after_seconds"] == 2
    rate.take(caller(2))
    clock.now = 2.0
    rate.take(caller(1))
    refused("too_many_requests", rate.take, caller(1))
    clock.now = 1e9  # a long pause fills the bucket and no more
    for _ in range(3):
        rate.take(caller(1))
    refused("too_many_requests", rate.take, caller(1))


def test_a_clock_that_goes_back_gives_nothing():
    clock = Clock()
    rate = RequestRate(per_second=1, burst=1, clock=clock)
    rate.take(caller(1))
    clock.now = -100.0
    refused("too_many_requests", rate.take, caller(1))


def test_rates_forget_callers_whose_buckets_are_full(monkeypatch):
    monkeypatch.setattr("poet_service.security.limits._REMEMBERED_CALLERS", 3)
    clock = Clock()
    rate = RequestRate(per_second=1, burst=2, clock=clock)
    for token_id in range(3):
        rate.take(caller(token_id))
    clock.now = 0.5
    rate.take(caller(1))
    clock.now = 1.0
    rate.take(caller(7))
    assert set(rate._buckets) == {1, 7}


def test_streams_are_bounded_for_one_and_for_all():
    places = StreamPlaces(per_caller=2, most=3, retry_after_seconds=4)
    with places.hold(caller(1)), places.hold(caller(1)):
        error = refused("too_many_streams", places.hold(caller(1)).__enter__)
        assert error.details["retry_after_seconds"] == 4
        with places.hold(caller(2)):
            assert places.held == 3
            refused("too_many_streams", places.hold(caller(3)).__enter__)
    assert places.held == 0
    assert not places._held


def test_a_place_is_given_back_whatever_happens():
    places = StreamPlaces(per_caller=1, most=1, retry_after_seconds=1)
    with pytest.raises(RuntimeError), places.hold(caller(1)):
        raise RuntimeError
    with places.hold(caller(1)):
        pass


def test_bytes_of_bodies():
    budget = ByteBudget(most_bytes=10, retry_after_seconds=3)
    budget.take(6)
    refused("busy", budget.take, 5)
    budget.take(4)
    budget.give_back(10)
    assert budget.held_bytes == 0
