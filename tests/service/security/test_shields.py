"""What surrounds every request, around an application that only says who asked."""

import asyncio
import json
import logging

import pytest

from poet_core.errors import ServiceError
from poet_service import logs
from poet_service.metrics import Metrics
from poet_service.problems import STATUS_OF_CODE, problem_response
from poet_service.security.tokens import TokenBook
from poet_service.settings import Settings
from poet_service.shields import Shields


async def tell_caller(scope, receive, send):
    """Stands for the application."""
    scope["poet_job_id"] = "a job"
    body = str(scope["poet_caller"].token_id).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


class House:
    def __init__(self, store, app=tell_caller, **settings):
        self.settings = Settings(token_memory_seconds=0, **settings)
        self.metrics = Metrics(store)
        tokens = TokenBook(store, memory_seconds=0)
        self.app = Shields(app, settings=self.settings, tokens=tokens, metrics=self.metrics)

    def ask(self, path="/v1/plans", method="GET", **headers):
        sent = {"host": "127.0.0.1"} | {key.replace("_", "-"): headers[key] for key in headers}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": b"",
            "headers": [(key.encode(), value.encode("latin-1")) for key, value in sent.items()],
        }  # fmt: skip
        messages = []

        async def send(message):
            messages.append(message)

        async def receive():
            return {"type": "http.disconnect"}

        asyncio.run(self.app(scope, receive, send))
        start, *rest = messages
        self.headers = {key.decode(): value.decode() for key, value in start["headers"]}
        return start["status"], b"".join(item["body"] for item in rest)


def code_of(answer):
    return answer[0], json.loads(answer[1])["code"]


def test_a_token_goes_all_the_way(store):
    house = House(store)
    assert house.ask() == (200, b"0")
    record, text = store.add_token("laptop", "team-a", ["plans"], None)
    assert house.ask(authorization=f"Bearer {text}") == (200, str(record.id).encode())
    assert code_of(house.ask()) == (401, "token_missing")
    assert house.headers["www-authenticate"] == 'Bearer realm="poet"'
    assert code_of(house.ask(authorization="Bearer x")) == (401, "token_unknown")
    assert 'error="invalid_token"' in house.headers["www-authenticate"]
    assert code_of(house.ask("/metrics", authorization=f"Bearer {text}")) == (403, "scope_missing")
    assert 'error="insufficient_scope"' in house.headers["www-authenticate"]
    assert house.ask("/healthz") == (200, b"-1")


def test_web_pages_are_refused_only_where_there_are_no_tokens(store):
    house = House(store)
    page = {"origin": "http://evil.example"}
    assert code_of(house.ask(**page)) == (403, "origin_not_allowed")
    assert code_of(house.ask(host="evil.example", **page)) == (421, "host_not_allowed")
    _, text = store.add_token("laptop", "team-a", ["plans"], None)
    status, _ = house.ask(host="planner.example", authorization=f"Bearer {text}", **page)
    assert status == 200


def test_a_rate_is_a_429_that_says_when(store):
    house = House(store, requests_per_second=0.1, request_burst=1)
    assert house.ask()[0] == 200
    assert code_of(house.ask()) == (429, "too_many_requests")
    assert 1 <= int(house.headers["retry-after"]) <= 10


def test_probes_are_not_turned_away_because_others_ask_much(store):
    house = House(store, requests_per_second=0.1, request_burst=1)
    store.add_token("laptop", "team-a", ["plans"], None)
    assert [house.ask("/healthz")[0] for _ in range(3)] == [200] * 3


def test_refusals_carry_the_security_headers_too(store):
    house = House(store)
    house.ask(host="evil.example")
    assert house.headers["x-content-type-options"] == "nosniff"
    assert len(house.headers["x-request-id"]) == 32


def test_a_database_that_is_away_is_a_503(store):
    class Away:
        def has_tokens(self):
            raise ServiceError("Gone.", code="database_unavailable")

    house = House(store)
    house.app._tokens = TokenBook(Away(), memory_seconds=0)
    assert code_of(house.ask()) == (503, "database_unavailable")
    assert house.headers["retry-after"]


def test_the_last_resort_shows_nothing(store, caplog):
    async def fails(scope, receive, send):
        raise RuntimeError("secret")

    house = House(store, app=fails)
    with caplog.at_level(logging.INFO, "poet_service"):
        assert code_of(house.ask()) == (500, "internal")
    assert "secret" not in caplog.text
    assert [item["event"] for item in lines(caplog)] == ["failure", "request"]


def lines(caplog):
    return [json.loads(record.getMessage()) for record in caplog.records]


def test_a_log_line_has_ids_and_no_more(store, caplog):
    house = House(store)
    record, text = store.add_token("laptop", "team-a", ["plans"], None)
    with caplog.at_level(logging.INFO, "poet_service"):
        house.ask("/PAYLOAD", authorization=f"Bearer {text}", user_agent="PAYLOAD")
    (line,) = lines(caplog)
    assert line.pop("request_id") == house.headers["x-request-id"]
    assert line.pop("milliseconds") >= 0
    assert line == {
        "event": "request", "method": "GET", "route": None, "status": 200,
        "token_id": record.id, "job_id": "a job",
    }  # fmt: skip
    assert text not in caplog.text


def test_figures_have_no_label_that_a_stranger_chooses(store):
    house = House(store)
    for method, path in (("GET", "/a"), ("BREW", "/b"), ("GET", "/c?d"), ("EVIL\x1b", "/e")):
        house.ask(path, method)
    text = house.metrics.render().decode()
    assert 'poet_http_requests_total{method="GET",route="none",status="200"} 2.0' in text
    assert 'poet_http_requests_total{method="other",route="none",status="200"} 2.0' in text
    assert "BREW" not in text
    assert "poet_http_requests_in_progress 0.0" in text


def test_websockets_are_closed(store):
    messages = []

    async def send(message):
        messages.append(message)

    asyncio.run(House(store).app({"type": "websocket"}, None, send))
    assert messages == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(("code", "status"), STATUS_OF_CODE.items())
def test_every_code_has_its_status(code, status):
    reply = problem_response(ServiceError("No.", code=code))
    assert (reply.status_code, json.loads(reply.body)["status"]) == (status, status)
    assert ("retry-after" in reply.headers) == (status == 503)
    assert ("www-authenticate" in reply.headers) == (code.startswith("token_") or "scope" in code)


def test_a_line_that_is_not_ours_is_a_message():
    record = logging.LogRecord("other", logging.WARNING, "", 0, "said %s", ("\x1b[31m",), None)
    line = json.loads(logs.JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == (
        "warning",
        "other",
        "said \\u001b[31m",
    )
