"""Doors that hostile requests try besides POST /v1/plans. One service for all of them."""

import asyncio
import json

import pytest
from starlette.testclient import TestClient

from poet_service.app import create_app
from poet_service.database.engine import open_store
from poet_service.openapi import EXAMPLES
from poet_service.settings import Settings
from tests.service.asgi import call
from tests.service.conftest import HeldExecutor, check_problem

JSON = {"Content-Type": "application/json"}
REQUEST = EXAMPLES["named_device"]["value"]
NOBODYS = "/v1/plans/" + "0" * 32


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    store = open_store(f"sqlite:///{folder}/poet.sqlite3")
    settings = Settings(state_dir=folder, ops_times_storages=200, request_burst=10**6)
    app = create_app(settings, store=store, executor=HeldExecutor(store))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        client.app_under_test = app
        yield client
    store.close()


def wide(graph):
    """The same step with more storages than the service's product allows."""
    spare = {"name": "spare", "bytes": 4, "role": "buffer", "persistent": True}
    known = len(graph["storages"])
    more = [spare | {"id": known + number} for number in range(60)]
    return graph | {"storages": [*graph["storages"], *more]}


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/v1/plans", {}),
        ("/v1/plans:validate", {}),
        ("/v1/plans:verify", {"plan": {}}),
        ("/v1/frontiers", {"budget": {}, "ram_bytes": [32768]}),
    ],
)
def test_every_door_has_the_same_limits(client, path, change):
    body = REQUEST | {"graph": wide(REQUEST["graph"])} | change
    problem = check_problem(client.post(path, json=body), 422, "limit_exceeded")
    assert problem["path"] == "$.graph"


@pytest.mark.parametrize(
    "path", ["/v1/plans:validate", "/v1/plans:verify", "/v1/frontiers", "/v1/devices:validate"]
)
def test_every_door_reads_strict_json_only(client, path):
    for body, code in ((b"[" * 10**5, "document_too_deep"), (b'{"a": NaN}', "not_finite")):
        check_problem(client.post(path, content=body, headers=JSON), 400, code)
    check_problem(client.post(path, content=b"{}"), 415, "unsupported_media_type")
    packed = JSON | {"Content-Encoding": "gzip"}
    check_problem(client.post(path, content=b"\x1f", headers=packed), 415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "GET"])
def test_a_page_of_another_site_changes_nothing(client, method):
    reply = client.request(method, NOBODYS, json={}, headers={"Origin": "http://evil.example"})
    check_problem(reply, 403, "origin_not_allowed")
    assert "access-control-allow-origin" not in reply.headers


def test_a_preflight_gets_no_leave(client):
    asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "DELETE"}
    check_problem(client.options(NOBODYS, headers=asked), 403, "origin_not_allowed")


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "HOST", "mkr1000.toml", "a" * 65, "%00", "mkr1000%0a",
     "%E2%80%AEmkr1000"],
)  # fmt: skip
def test_a_device_is_a_name_and_never_a_path(client, name):
    reply = client.get(f"/v1/devices/{name}")
    assert reply.status_code == 404
    assert reply.json()["code"] in ("unknown_device", "not_found")


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/v1/plans", b"limit=-1"),
        ("GET", "/v1/plans", b"limit=99999999999999999999"),
        ("GET", "/v1/plans", b"limit=1&before=%00"),
        ("GET", "/v1/plans", b"before='; DROP TABLE jobs; --"),
        ("GET", NOBODYS, b"wait=nan"),
        ("GET", NOBODYS, b"wait=-1"),
        ("GET", NOBODYS, b"wait=1e400"),
        ("GET", f"{NOBODYS}/log", b"offset=-1"),
        ("GET", f"{NOBODYS}/log", b"offset=1e9"),
        ("GET", f"{NOBODYS}/log", b"offset=99999999999999999999"),
        ("GET", f"{NOBODYS}/events", b"after=\xff\xfe"),
        ("DELETE", NOBODYS, b"discard=perhaps"),
        ("GET", "/v1/plans/\u0660" + "0" * 31, b""),
        ("GET", "/v1/frontiers/" + "0" * 32 + "/plans/-1", b""),
        ("GET", "/v1/frontiers/" + "0" * 32 + "/plans/99999999999999999999", b""),
    ],
)
def test_a_parameter_that_makes_no_sense(client, method, path, query):
    status, headers, text = asyncio.run(call(client.app_under_test, method, path, query=query))
    assert status in (404, 422), text
    assert headers[b"content-type"] == b"application/problem+json"
    assert json.loads(text)["code"]


@pytest.mark.parametrize("key", [b"", b"\x00", b"a" * 201, b"caf\xe9", b"two\nlines"])
def test_an_idempotency_key_that_is_none(client, key):
    headers = ((b"content-type", b"application/json"), (b"idempotency-key", key))
    body = json.dumps(REQUEST).encode()
    status, _, text = asyncio.run(
        call(client.app_under_test, "POST", "/v1/plans", body=body, headers=headers)
    )
    assert (status, json.loads(text)["code"]) == (422, "parameter_invalid")
