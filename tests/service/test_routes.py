"""The other routes, headers, hosts, logs, failures, and that the API's description is true."""

import json
import logging
import subprocess
import sys
import threading

import pytest

from poet_core.device_document import device_from_document
from poet_core.devices import device_names, load_device
from poet_core.errors import ServiceError
from poet_service.jobs.records import Swept
from tests.service.conftest import check_problem


def test_health(client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_readiness_says_what_is_missing_and_is_remembered(make_client, held, monkeypatch):
    client = make_client(held)
    assert client.get("/readyz").json() == {"status": "ready"}
    held.trouble = "The nursery is closed."
    assert client.get("/readyz").status_code == 200  # it asked a moment ago
    monkeypatch.setattr("poet_service.routes.operations._KEPT_SECONDS", 0.0)
    other = make_client(held)
    assert "nursery" in check_problem(other.get("/readyz"), 503, "not_ready")["detail"]
    held.trouble = None
    assert other.get("/readyz").status_code == 200


def test_a_database_that_is_away_is_no_failure_of_ours(
    make_client, held, store, request_body, monkeypatch
):
    def away(*given, **named):
        raise ServiceError("Away.", code="database_unavailable", hint="Wait.")

    client = make_client(held)
    for name in ("ping", "submit", "job", "jobs"):
        monkeypatch.setattr(store, name, away)
    for response in (
        client.get("/readyz"),
        client.post("/v1/plans", json=request_body),
        client.get(f"/v1/plans/{'0' * 32}"),
        client.get("/v1/plans"),
    ):
        check_problem(response, 503, "database_unavailable")
        assert int(response.headers["retry-after"]) > 0


def test_what_is_too_old_is_swept_whatever_happens(make_client, held, store, monkeypatch):
    calls, swept = [], threading.Event()

    def sweep(**how):
        calls.append(how)
        if len(calls) == 1:
            raise ServiceError("Away.", code="database_unavailable")
        swept.set()
        return Swept(jobs=0, solves=0, stored_bytes=0)

    monkeypatch.setattr(store, "sweep", sweep)
    make_client(held, sweep_seconds=0.1, retain_seconds=60, stored_bytes=2**20)
    assert swept.wait(10)
    assert calls[1] == {"older_than_seconds": 60, "most_bytes": 2**20}


def test_metrics_are_text_for_prometheus(client, request_body):
    client.post("/v1/plans?wait=20", json=request_body)
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'poet_solves{state="finished"} 1.0' in response.text
    assert 'route="/v1/plans"' in response.text


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
        ("PUT", "/v1/plans", 405, "method_not_allowed"),
        ("DELETE", "/healthz", 405, "method_not_allowed"),
        ("TRACE", "/v1/plans", 405, "method_not_allowed"),
    ],
)
def test_unknown_addresses_and_methods(client, method, path, status, code):
    response = client.request(method, path)
    check_problem(response, status, code)
    if status == 405:
        known = {"/v1/plans": "GET, POST", "/healthz": "GET"}
        assert response.headers["allow"] == known[path]


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


def test_an_unexpected_failure_shows_nothing_of_itself(
    make_client, held, store, caplog, monkeypatch
):
    def broken(*given, **named):
        raise RuntimeError("secret \x1b[31m detail")

    client = make_client(held)
    monkeypatch.setattr(store, "jobs", broken)
    with caplog.at_level(logging.INFO, "poet_service"):
        response = client.get("/v1/plans")
    problem = check_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    records = [json.loads(record.getMessage()) for record in caplog.records]
    failure = next(item for item in records if item["event"] == "failure")
    assert failure["request_id"] == problem["request_id"]
    assert any("listing" in line for line in failure["trace"])
    assert "secret" not in caplog.text


def test_the_log_is_json_without_payloads(make_client, held, request_body, caplog):
    request_body["graph"]["name"] = "PAYLOAD"
    client = make_client(held)
    with caplog.at_level(logging.INFO, "poet_service"):
        job_id = client.post("/v1/plans", json=request_body).json()["id"]
        client.post("/v1/plans", json=request_body | {"device": "PAYLOAD"})
        client.get("/v1/devices/PAYLOAD")
        client.get("/PAYLOAD")
        client.get(f"/v1/plans/{job_id}")
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    lines = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line.get("error")) for line in lines] == [
        (202, None), (422, "unknown_device"), (404, "unknown_device"), (404, "not_found"),
        (200, None),
    ]  # fmt: skip
    assert lines[0]["route"] == "/v1/plans"
    assert lines[2]["route"] == "/v1/devices/{name}"
    assert lines[0]["job_id"] == lines[4]["job_id"] == job_id
    assert "PAYLOAD" not in caplog.text


def test_own_profiles_are_read_back(client):
    device = {
        "schema": "poet.device/1", "name": "b", "title": "B", "ram_bytes": 65536,
        "flops_per_second": 1e6, "flops_per_joule": {"value": 1e7, "source": "my meter"},
        "page_in_latency_seconds": 0, "page_in_bytes_per_second": 1, "flash_watts": 0,
        "page_out_latency_seconds": 0, "page_out_bytes_per_second": 1,
    }  # fmt: skip
    answer = client.post("/v1/devices:validate", json=device)
    assert answer.status_code == 200
    assert device_from_document(answer.json()) == device_from_document(device)
    bad = client.post("/v1/devices:validate", json=device | {"flops_per_second": 0})
    check_problem(bad, 422, "device_field")


def test_the_service_imports_neither_torch_nor_a_solver():
    code = (
        "import sys, poet_service.app;"
        "print(sorted({'torch', 'numpy', 'pulp', 'highspy', 'procrastinate'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
