"""The client's plans: from a service, and from servers that lie."""

import dataclasses
import json
import socket
import time

import pytest

from poet_client.asking import PlanArguments
from poet_core.devices import load_device
from poet_core.documents import parse_json
from poet_core.errors import (
    BudgetError,
    DeviceError,
    PlanError,
    PlanningError,
    ServiceError,
    UsageError,
)
from poet_core.plan import Allowed, Instruction, Objective
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest, request_from_document
from poet_core.verify import verify
from poet_service.problems import error_document
from tests.client.conftest import hasty, hostile_server, running_service
from tests.client.fake_service import keep_everything_plan, reply
from tests.service.conftest import HeldExecutor

RAM = 32768


def ask(url, graph, **more):
    return hasty(url).plan(graph, **({"device": "mkr1000", "ram_bytes": RAM} | more))


class Liar:
    """A server whose plan is changed, told at once or when the job is asked for."""

    def __init__(self, change=lambda plan: plan, at_once=True):
        self.change, self.at_once, self.document = change, at_once, {}

    def __call__(self, handler, body):
        if handler.command == "POST":
            plan = self.change(keep_everything_plan(request_from_document(parse_json(body))))
            self.document = {"id": "1" * 32, "state": "finished", "plan": plan_to_document(plan)}
            if not self.at_once:
                reply(handler, 202, {"id": "1" * 32, "state": "queued"})
                return
        reply(handler, 200, self.document)


def test_a_plan_from_a_real_service(service, graph):
    plan = ask(service, graph)
    assert plan.budget.ram_bytes == RAM
    assert verify(graph, plan).peak_bytes <= RAM


def test_every_choice_arrives(service, graph):
    plan = ask(
        service + "/", graph, device=load_device("jetson-tx2"), time_ratio=1.3, energy_joules=9.0,
        flash_bytes=10**6, flash_write_bytes=5, objective=Objective.TIME,
        allowed=Allowed(reorder=False), backend="highs", wall_seconds=5.0,
    )  # fmt: skip
    seconds = 1.3 * plan.costs.base_seconds
    assert plan.budget.step_seconds == pytest.approx(seconds)
    assert (plan.budget.energy_joules, plan.budget.flash_bytes) == (9.0, 10**6)
    assert plan.budget.flash_write_bytes == 5
    assert (plan.objective, plan.allowed.reorder) == (Objective.TIME, False)


def test_flash_writes_are_capped_unless_told_otherwise(service, graph):
    plan = ask(service, graph)
    assert plan.budget.flash_write_bytes == 4 * plan.claims.peak_bytes


def test_a_request_knows_every_argument_of_plan():
    arguments = {"graph", *PlanArguments.__annotations__}
    assert arguments == {item.name for item in dataclasses.fields(PlanRequest)}


@pytest.mark.parametrize(
    ("more", "error", "code"),
    [
        ({"device": "nothing"}, DeviceError, "unknown_device"),
        ({"ram_bytes": 100}, BudgetError, "ram_below_floor"),
        ({"ram_bytes": 2**40}, UsageError, "ram_above_device"),
    ],
)
def test_what_can_be_refused_here_asks_no_server(more, error, code, graph):
    with pytest.raises(error) as caught:
        ask("http://127.0.0.1:1", graph, **more)
    assert caught.value.code == code


def test_a_server_that_is_not_there(graph):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        with pytest.raises(ServiceError) as caught:
            ask(f"http://127.0.0.1:{taken.getsockname()[1]}", graph)
    assert caught.value.code == "server_unreachable"
    assert "poet serve" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8080", "ftp://x", "http://", "http://user:secret@host", "http://h:99999",
     "http://h?x=1", "file:///etc/passwd", "http://[::1", "http://\x1b[31m\n"],
)  # fmt: skip
def test_an_address_that_is_none(url, graph):
    with pytest.raises((UsageError, ServiceError)) as caught:
        ask(url, graph)
    assert caught.value.code in {"server_invalid", "server_unreachable"}
    assert "secret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


class Failing(HeldExecutor):
    """Finds nothing, at once."""

    async def submit(self, solve_id):
        error = PlanningError("Not found.", code="not_found_in_time", hint="More time.")
        self.begin(solve_id)
        self.fail(solve_id, error_document(error))


def test_the_servers_refusal_is_the_same_error_as_here(graph):
    with running_service(Failing) as (url, _), pytest.raises(PlanningError) as caught:
        ask(url, graph)
    assert (caught.value.code, caught.value.hint) == ("not_found_in_time", "More time.")


def with_schedule(plan, **changes):
    return dataclasses.replace(plan, schedule=dataclasses.replace(plan.schedule, **changes))


LIES = {
    "another budget": (
        lambda plan: dataclasses.replace(
            plan, budget=dataclasses.replace(plan.budget, ram_bytes=2 * RAM)
        ),
        "plan_for_other_problem",
    ),
    "no cap on flash writes": (
        lambda plan: dataclasses.replace(
            plan, budget=dataclasses.replace(plan.budget, flash_write_bytes=None)
        ),
        "plan_for_other_problem",
    ),
    "other costs": (
        lambda plan: dataclasses.replace(
            plan, costs=dataclasses.replace(plan.costs, idle_watts=1.0)
        ),
        "plan_for_other_problem",
    ),
    "another device": (
        lambda plan: dataclasses.replace(plan, device_name="host"), "plan_for_other_problem",
    ),
    "another objective": (
        lambda plan: dataclasses.replace(plan, objective=Objective.TIME), "plan_for_other_problem",
    ),
    "more allowed": (
        lambda plan: dataclasses.replace(plan, allowed=Allowed(page=False)),
        "plan_for_other_problem",
    ),
    "another graph": (
        lambda plan: dataclasses.replace(plan, graph_sha256="0" * 64), "plan_for_other_graph",
    ),
    "a prettier peak": (
        lambda plan: dataclasses.replace(
            plan, claims=dataclasses.replace(plan.claims, peak_bytes=1)
        ),
        "claim_mismatch",
    ),
    "a missing instruction": (
        lambda plan: with_schedule(plan, instructions=plan.schedule.instructions[1:]),
        "not_resident",
    ),
    "an instruction for nothing": (
        lambda plan: with_schedule(
            plan,
            instructions=(
                Instruction(plan.schedule.instructions[0].do, 10**6),
                *plan.schedule.instructions[1:],
            ),
        ),
        "unknown_op",
    ),
}  # fmt: skip


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found(name, at_once, graph):
    change, code = LIES[name]
    with hostile_server(Liar(change, at_once)) as url, pytest.raises(PlanError) as caught:
        ask(url, graph)
    assert caught.value.code == code


@pytest.mark.parametrize("at_once", [True, False])
def test_the_hostile_server_of_these_tests_can_be_honest(at_once, graph):
    with hostile_server(Liar(at_once=at_once)) as url:
        assert ask(url, graph).claims.peak_bytes <= RAM


def test_too_many_instructions(graph):
    def many(plan):
        return with_schedule(plan, instructions=plan.schedule.instructions * 60)

    with hostile_server(Liar(many)) as url, pytest.raises(ServiceError) as caught:
        ask(url, graph)
    assert caught.value.code == "server_answer_invalid"
    assert caught.value.details["document_code"] == "limit_exceeded"


def endless(handler, _):
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 2**16)


def dripping(handler, _):
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


NO_ANSWERS = {
    "endless": (endless, "server_answer_too_large"),
    "HTML": (lambda h, _: reply(h, 200, b"<html>"), "server_answer_invalid"),
    "nothing at all": (lambda h, _: reply(h, 200, b""), "server_answer_invalid"),
    "no plan": (lambda h, _: reply(h, 200, {}), "server_answer_invalid"),
    "a plan of null": (lambda h, _: reply(h, 200, {"id": "1" * 32, "state": "finished", "plan": None}),
                       "server_answer_invalid"),
    "a state that is none": (lambda h, _: reply(h, 200, {"id": "1" * 32, "state": "happy"}),
                             "server_answer_invalid"),
    "an id that is a path": (lambda h, _: reply(h, 202, {"id": "../../secrets", "state": "queued"}),
                             "server_answer_invalid"),
    "another job": (lambda h, _: reply(h, 200, {"id": "2" * 32, "state": "finished"}),
                    "server_answer_invalid"),
    "a list": (lambda h, _: reply(h, 200, []), "server_answer_invalid"),
    "an empty plan": (lambda h, _: reply(h, 200, {"id": "1" * 32, "state": "finished", "plan": {}}), "server_answer_invalid"),
    "deep nesting": (lambda h, _: reply(h, 200, b"[" * 10**5), "server_answer_invalid"),
    "not a number": (lambda h, _: reply(h, 200, b'{"plan": NaN}'), "server_answer_invalid"),
    "a broken server": (lambda h, _: reply(h, 500, b"<html>"), "server_answer_invalid"),
    "another service": (lambda h, _: reply(h, 404, {"detail": "Not Found"}), "server_answer_invalid"),
    "a code that is none": (lambda h, _: reply(h, 422, {"code": 5}), "server_answer_invalid"),
    "compressed": (lambda h, _: reply(h, 200, b"", [("Content-Encoding", "gzip")]), "server_answer_invalid"),
    "a redirect": (lambda h, _: reply(h, 307, b"", [("Location", "http://127.0.0.1:1/")]),
         "server_redirects"),
    "no HTTP": (lambda h, _: h.wfile.write(b"garbage\r\n\r\n"), "server_unreachable"),
    "a closed connection": (lambda h, _: None, "server_unreachable"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_an_answer_that_is_none(name, graph):
    answer, code = NO_ANSWERS[name]
    with hostile_server(answer) as url, pytest.raises(ServiceError) as caught:
        ask(url, graph)
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_a_job_that_is_none(name, graph):
    answer, code = NO_ANSWERS[name]

    def turns(handler, body):
        if handler.command == "POST":
            reply(handler, 202, {"id": "1" * 32, "state": "queued"})
        else:
            answer(handler, body)

    with hostile_server(turns) as url, pytest.raises(ServiceError) as caught:
        ask(url, graph)
    assert caught.value.code == code


def test_a_server_that_drips_is_given_up(graph):
    with hostile_server(dripping) as url, pytest.raises(ServiceError) as caught:
        hasty(url, timeout=0.3).plan(graph, device="mkr1000", ram_bytes=RAM)
    assert caught.value.code == "server_timeout"


def test_a_server_that_is_silent_is_given_up(graph):
    with (
        hostile_server(lambda handler, body: time.sleep(1)) as url,
        pytest.raises(ServiceError) as caught,
    ):
        hasty(url, timeout=0.2).plan(graph, device="mkr1000", ram_bytes=RAM)
    assert caught.value.code == "server_timeout"


def test_a_hostile_refusal_is_shown_harmlessly(graph):
    evil = "\x1b[2J<script>\u202e" + "x" * 10**4
    document = {
        "code": evil, "detail": evil, "hint": evil, "kind": "__class__", evil: evil, "deep": [1],
    }  # fmt: skip
    with (
        hostile_server(lambda handler, body: reply(handler, 422, document)) as url,
        pytest.raises(ServiceError) as caught,
    ):
        ask(url, graph)
    error = caught.value
    assert len(str(error)) < 2000
    for text in (error.code, error.message, error.hint, *map(str, error.details.items())):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert "deep" not in error.details
    assert json.dumps(error.to_document())
