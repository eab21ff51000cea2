"""Wrong and hostile requests: each is a clear 4xx with a machine-readable code."""

import asyncio
import copy
import json
import time

import pytest
from starlette.testclient import TestClient

from poet_service.app import create_app
from poet_service.database.engine import open_store
from poet_service.settings import Settings
from tests.service.asgi import JSON as JSON_HEADERS
from tests.service.asgi import call, http_scope
from tests.service.conftest import QuickExecutor, check_problem

JSON = {"Content-Type": "application/json"}
SCOPE = http_scope("POST", "/v1/plans", headers=JSON_HEADERS)
POSTS = ("/v1/plans", "/v1/plans:validate", "/v1/plans:verify", "/v1/frontiers",
         "/v1/devices:validate")  # fmt: skip


def post(client, content, headers=JSON, path="/v1/plans"):
    return client.post(path, content=content, headers=headers)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """One service for all: none of these requests leaves anything that matters to another."""
    folder = tmp_path_factory.mktemp("service")
    store = open_store(f"sqlite:///{folder / 'poet.db'}")
    app = create_app(Settings(state_dir=folder), store=store, executor=QuickExecutor(store))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client
    store.close()


@pytest.fixture
def app(store, held, tmp_path):
    """The application without its life: nothing is started."""
    return create_app(Settings(state_dir=tmp_path, body_seconds=0.2), store=store, executor=held)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "document_not_json"),
        (b"{", 400, "document_not_json"),
        (b"\xff\xfe{}", 400, "document_not_json"),
        ('{"graph": "\ud800"}'.encode("utf-8", "surrogatepass"), 400, "document_not_json"),
        (b"[" * 10**5, 400, "document_too_deep"),
        (b'{"a":' * 10**5, 400, "document_too_deep"),
        (b'{"graph": NaN}', 400, "not_finite"),
        (b'{"graph": 1e999}', 400, "not_finite"),
        (b'{"graph": 1, "graph": 2}', 400, "duplicate_key"),
        (b'{"graph": 99999999999999999999}', 422, "out_of_range"),
        (b"[" + b"[]," * 10**6 + b"[]]", 422, "limit_exceeded"),
        (b"[]", 422, "wrong_type"),
        (b"null", 422, "wrong_type"),
        (b"{}", 422, "missing_field"),
    ],
)
def test_a_text_that_is_no_request(client, body, status, code):
    for path in POSTS:
        check_problem(post(client, body, path=path), status, code)


def changed(body, path, value):
    body = copy.deepcopy(body)
    target = body
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return body


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("graph", "ops", 0, "reads"), [999], "graph_unknown_storage"),
        (("graph", "ops", 0, "reads"), [-1], "out_of_range"),
        (("graph", "ops", 0, "id"), 10**9, "graph_op_id"),
        (("graph", "ops", 0, "reads"), [2], "graph_touches_twice"),
        (("graph", "ops", 0, "reads"), [3], "graph_cyclic"),
        (("graph", "ops"), [], "graph_empty"),
        (("graph", "storages", 0, "bytes"), -1, "out_of_range"),
        (("graph", "storages", 0, "bytes"), 1.5, "wrong_type"),
        (("graph", "storages", 0, "bytes"), 2**53 - 1, "graph_too_large"),
        (("graph", "storages", 0, "role"), "king", "wrong_value"),
        (("graph", "storages", 0, "name"), "n" * 1001, "limit_exceeded"),
        (("graph", "schema"), "poet.graph/2", "wrong_schema"),
        (("graph", "code"), "import os", "unknown_field"),
        (("budget", "ram_bytes"), -5, "out_of_range"),
        (("budget", "ram_bytes"), 0, "out_of_range"),
        (("budget", "ram_bytes"), "32KiB", "wrong_type"),
        (("budget", "time_ratio"), 0.5, "out_of_range"),
        (("budget",), {"ram_bytes": 1, "time_ratio": 2, "step_seconds": 1}, "limit_twice"),
        (("device",), "../../etc/passwd", "unknown_device"),
        (("device",), {"schema": "poet.device/1"}, "missing_field"),
        (("device",), 5, "wrong_type"),
        (("objective",), "glory", "wrong_value"),
        (("allowed",), {"page": 1}, "wrong_type"),
        (("planner",), {"backend": "gurobi"}, "wrong_value"),
        (("planner",), {"backend": "/bin/sh"}, "wrong_value"),
        (("planner",), {"wall_seconds": 1e9}, "out_of_range"),
        (("planner",), {"wall_seconds": 0}, "out_of_range"),
        (("planner",), {"threads": 64}, "unknown_field"),
    ],
)
def test_a_request_that_makes_no_sense(client, request_body, path, value, code):
    check_problem(client.post("/v1/plans", json=changed(request_body, path, value)), 422, code)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"points": 0}, "out_of_range"),
        ({"points": 33}, "out_of_range"),
        ({"points": 1.5}, "wrong_type"),
        ({"points": 2, "ram_bytes": [32768]}, "limit_twice"),
        ({"ram_bytes": []}, "out_of_range"),
        ({"ram_bytes": [0]}, "out_of_range"),
        ({"ram_bytes": ["1"]}, "wrong_type"),
        ({"ram_bytes": 32768}, "wrong_type"),
        ({"ram_bytes": list(range(20000, 20033))}, "limit_exceeded"),
        ({"ram_bytes": [32768, 1024]}, "ram_below_floor"),
        ({"ram_bytes": [2**40]}, "ram_above_device"),
        ({"budget": {"ram_bytes": 32768}}, "unknown_field"),
        ({"budget": 5}, "wrong_type"),
        ({"warm_start": {}}, "unknown_field"),
        ({"device": "no-board"}, "unknown_device"),
    ],
)
def test_a_frontier_that_makes_no_sense(client, graph, change, code):
    body = {"graph": graph, "device": "mkr1000"} | change
    check_problem(client.post("/v1/frontiers", json=body), 422, code)


def test_more_ops_than_the_service_takes_names_the_limit(client, request_body):
    op = {"id": 0, "name": "a", "kind": "k", "phase": "forward"}
    ops = [op | {"id": index} for index in range(5001)]
    response = client.post("/v1/plans", json=changed(request_body, ("graph", "ops"), ops))
    problem = check_problem(response, 422, "limit_exceeded")
    assert (problem["path"], "5000" in problem["detail"]) == ("$.graph.ops", True)


def test_the_product_of_ops_and_storages_is_bounded(make_client, request_body):
    client = make_client(ops_times_storages=10)
    problem = check_problem(client.post("/v1/plans", json=request_body), 422, "limit_exceeded")
    assert problem["path"] == "$.graph"


def test_a_huge_body(client):
    check_problem(post(client, b" " * (16 * 2**20 + 1)), 413, "document_too_large")


def test_a_chunked_body_without_end_is_not_read_to_its_end(app):
    sent, replies = 0, []

    async def receive():
        nonlocal sent
        sent += 2**20
        return {"type": "http.request", "body": b" " * 2**20, "more_body": True}

    async def send(message):
        replies.append(message)

    asyncio.run(app(dict(SCOPE), receive, send))
    assert replies[0]["status"] == 413
    assert json.loads(replies[1]["body"])["code"] == "document_too_large"
    assert sent <= 34 * 2**20


def test_a_body_that_never_comes(app):
    replies = []

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message):
        replies.append(message)

    asyncio.run(app(dict(SCOPE), receive, send))
    assert replies[0]["status"] == 408


def test_a_client_that_goes_away_leaves_its_job(app, held, request_body):
    """The job was accepted; who wants it stopped says so."""

    async def go_away():
        gone = asyncio.Event()
        asking = asyncio.ensure_future(
            call(
                app,
                "POST",
                "/v1/plans",
                query=b"wait=30",
                body=json.dumps(request_body).encode(),
                gone=gone,
            )
        )
        async with asyncio.timeout(10):
            while not held.submitted:
                await asyncio.sleep(0.01)
            gone.set()
            await asking

    asyncio.run(go_away())
    assert held.stopped == []
    assert str(held.store.solve(held.submitted[0]).state) == "queued"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "",
     "application/json; charset=latin-1", "text/html\x1b[31m"],
)  # fmt: skip
def test_another_content_type(client, content_type):
    check_problem(
        post(client, b"{}", {"Content-Type": content_type}), 415, "unsupported_media_type"
    )


def test_a_compressed_body(client):
    headers = JSON | {"Content-Encoding": "gzip"}
    check_problem(post(client, b"\x1f\x8b", headers), 415, "unsupported_media_type")


def test_the_content_type_may_name_its_charset(client, request_body):
    headers = {"Content-Type": 'Application/JSON; charset="UTF-8"'}
    assert post(client, json.dumps(request_body).encode(), headers).status_code == 202


def test_a_refusal_is_quick(client):
    started = time.perf_counter()
    post(client, b"[" * 10**6)
    post(client, b'{"a": "' + b"\\u0000" * 10**6 + b'"}')
    assert time.perf_counter() - started < 5


def strings_in(value):
    if isinstance(value, dict):
        return [text for pair in value.items() for item in pair for text in strings_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in strings_in(item)]
    return [value] if isinstance(value, str) else []


INJECTIONS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "__import__('os').system('id')",
    "\x1b]0;owned\x07\x1b[31m",
    "'; DROP TABLE plans; --",
    "{{7*7}}${7*7}%n%s",
    "\u202etxt.exe",
    "../../etc/passwd",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_strings_never_come_back_as_html_or_raw_escapes(client, request_body, text):
    body = copy.deepcopy(request_body)
    for item in body["graph"]["storages"] + body["graph"]["ops"]:
        item["name"] = text
    body["graph"]["name"] = text
    for op in body["graph"]["ops"]:
        op["kind"] = op["module"] = text
    fine = client.post("/v1/plans?wait=20", json=body)
    assert fine.json()["state"] == "finished"
    links = fine.json()["links"]
    shown = [client.get(links["plan"]), client.post("/v1/plans:validate", json=body)]
    refused = [
        client.post("/v1/plans", json=body | {"budget": {"ram_bytes": 100}}),
        client.post("/v1/plans", json=body | {"device": text}),
        client.post("/v1/plans", json=body | {text: 1}),
        client.post("/v1/plans", json=changed(body, ("graph", "ops", 0, "phase"), text)),
        client.post("/v1/plans", json=changed(body, ("graph", "ops", 0, "reads"), [3])),
    ]
    for response in [fine, *shown, *refused]:
        assert response.headers["content-type"].startswith("application/")
        assert b"<" not in response.content
        assert b"\x1b" not in response.content
        assert not any("\x1b" in text for text in strings_in(response.json()))
        assert "\u202e" not in response.text
    assert all(response.status_code == 422 for response in refused)
