"""The other routes, headers, hosts, logs, failures, and that the API's description is true."""

import json
import logging
import subprocess
import sys

import pytest

from poet_core.device_document import device_from_document
from poet_core.devices import device_names, load_device
from poet_service.openapi import EXAMPLES
from tests.service.conftest import check_problem, make_client


def test_health(client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_devices_with_their_sources(client):
    documents = client.get("/v1/devices").json()["devices"]
    assert [item["name"] for item in documents] == list(device_names())
    assert all(item["ram_bytes"]["source"] for item in documents)


@pytest.mark.parametrize("name", device_names())
def test_a_device_reads_back_as_it_is(client, name):
    assert device_from_document(client.get(f"/v1/devices/{name}").json()) == load_device(name)


@pytest.mark.parametrize("name", ["nothing", "..%2fhost", "host.toml", "<b>"])
def test_an_unknown_device_is_not_found(client, name):
    response = client.get(f"/v1/devices/{name}")
    assert response.status_code == 404
    assert response.json()["code"] in {"unknown_device", "not_found"}
    assert "<" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/redoc", 404, "not_found"),
        ("GET", "/v1/plans/", 404, "not_found"),
        ("GET", "/%3Cscript%3E", 404, "not_found"),
        ("GET", "/v1/plans", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("TRACE", "/v1/plans", 405, "method_not_allowed"),
    ],
)
def test_unknown_addresses_and_methods(client, method, path, status, code):
    response = client.request(method, path)
    check_problem(response, status, code)
    if status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/openapi.json"])
def test_every_reply_carries_the_security_headers(client, path):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-frame-options"] == "DENY"
    assert len(headers["x-request-id"]) == 32
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::2]:80"])
def test_another_host_is_refused(client, host):
    check_problem(client.get("/healthz", headers={"Host": host}), 421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
def test_loopback_hosts_are_answered(client, host):
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


def test_every_host_is_answered_where_that_was_asked_for():
    client = make_client(allowed_hosts=None)
    assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 200


def test_an_unexpected_failure_shows_nothing_of_itself(request_body, caplog):
    def planner(problem, **how):
        raise RuntimeError("secret \x1b[31m detail")

    with caplog.at_level(logging.INFO, "poet_service"):
        response = make_client(planner).post("/v1/plans", json=request_body)
    problem = check_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    records = [json.loads(record.getMessage()) for record in caplog.records]
    failure = next(item for item in records if item["event"] == "failure")
    assert failure["request_id"] == problem["request_id"]
    assert any("planner" in line for line in failure["trace"])
    assert "secret" not in caplog.text


def test_the_log_is_json_without_payloads(request_body, caplog):
    request_body["graph"]["name"] = "PAYLOAD"
    with caplog.at_level(logging.INFO, "poet_service"):
        client = make_client()
        client.post("/v1/plans", json=request_body)
        client.post("/v1/plans", json=request_body | {"device": "PAYLOAD"})
        client.get("/v1/devices/PAYLOAD")
        client.get("/PAYLOAD")
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["status"], line.get("error")) for line in lines] == [
        (200, None), (422, "unknown_device"), (404, None), (404, "not_found"),
    ]  # fmt: skip
    assert lines[0]["route"] == "/v1/plans"
    assert lines[2]["route"] == "/v1/devices/{name}"
    assert "PAYLOAD" not in caplog.text


def test_the_description_of_the_api(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/healthz", "/v1/devices", "/v1/devices/{name}", "/v1/plans", "/v1/plans/{plan_id}",
    }  # fmt: skip
    content = document["paths"]["/v1/plans"]["post"]["requestBody"]["content"]
    assert content["application/json"]["examples"] == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_works_with_the_real_planner(name):
    from poet_service.solving import default_planner

    answer = make_client(default_planner).post("/v1/plans", json=EXAMPLES[name]["value"])
    assert answer.status_code == 200, answer.text
    summary = answer.json()["summary"]
    assert summary["peak_bytes"] <= EXAMPLES[name]["value"]["budget"]["ram_bytes"]
    assert summary["peak_bytes"] < summary["keep_everything_bytes"]
    assert summary["transfers"] + summary["recomputed_ops"] > 0


def test_the_service_imports_neither_torch_nor_a_solver():
    code = (
        "import sys, poet_service.app; poet_service.app.create_app();"
        "print(sorted({'torch', 'numpy', 'pulp', 'highspy'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_plan_needs_no_torch():
    code = (
        "import sys, json\n"
        "from starlette.testclient import TestClient\n"
        "from poet_service.app import create_app\n"
        "from poet_service.openapi import EXAMPLES\n"
        "client = TestClient(create_app(), base_url='http://127.0.0.1')\n"
        "reply = client.post('/v1/plans', json=EXAMPLES['named_device']['value'])\n"
        "print(reply.status_code, 'torch' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["200", "False"]
