"""Devices, validation and the judge at a service: its word, read strictly."""

import dataclasses

import pytest

from poet_core.devices import device_names, load_device
from poet_core.errors import DocumentError, ServiceError
from tests.client.conftest import hostile_server, request_for
from tests.client.fake_service import keep_everything_plan, reply


def test_the_devices(service, client_of):
    found = client_of(service).devices()
    assert {profile.name for profile in found} == set(device_names())
    assert load_device("mkr1000") in found


def test_a_request_that_may_have_a_plan(service, client_of, graph):
    found = client_of(service).validate(request_for(graph))
    assert (found.fits, found.refused) == (True, None)
    assert (found.ops, found.storages) == (len(graph.ops), len(graph.storages))
    assert found.floor_bytes <= found.keep_everything_bytes <= 32768
    assert found.floor_set_by.startswith("op")
    assert found.least_seconds > 0 < found.least_joules


def test_a_request_that_cannot_have_one(service, client_of, graph):
    found = client_of(service).validate(request_for(graph, ram_bytes=100))
    assert (found.fits, found.refused.code) == (False, "ram_below_floor")
    assert found.refused.details["floor_bytes"] == found.floor_bytes


def test_a_question_that_is_none_is_refused(service, client_of, graph):
    with pytest.raises(DocumentError) as caught:
        client_of(service).validate(request_for(graph, time_ratio=2.0, step_seconds=1.0))
    assert caught.value.code == "limit_twice"


def test_the_judge_there(service, client_of, graph):
    request = request_for(graph)
    plan = keep_everything_plan(request)
    verdict = client_of(service).verify(request, plan)
    assert (verdict.accepted, verdict.error) == (True, None)
    cut = dataclasses.replace(plan.schedule, instructions=plan.schedule.instructions[1:])
    verdict = client_of(service).verify(request, dataclasses.replace(plan, schedule=cut))
    assert (verdict.accepted, verdict.error.code) == (False, "not_resident")


@pytest.mark.parametrize(
    "answer",
    [{}, [], {"devices": 5}, {"devices": [5]}, {"devices": [{}]}, {"devices": [{}] * 2000}, b"<html>",
     {"fits": "yes"}, {"fits": True, "ops": -1}, {"accepted": 1}, {"jobs": [5]},
     {"jobs": [{}]}, {"jobs": [], "next": "a b"}, {"jobs": [], "next": 5}],
)  # fmt: skip
def test_answers_that_are_none(client_of, graph, answer):
    request = request_for(graph)
    with hostile_server(lambda handler, _: reply(handler, 200, answer)) as url:
        client = client_of(url)
        for call in (
            client.devices,
            client.jobs,
            lambda: client.validate(request),
            lambda: client.verify(request, keep_everything_plan(request)),
        ):
            with pytest.raises(ServiceError) as caught:
                call()
            assert caught.value.code == "server_answer_invalid"
