"""poet serve: a process of its own on a free port, reachable from here only."""

import contextlib
import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from poet_service.openapi import EXAMPLES


@contextlib.contextmanager
def served(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "poet_cli.main", "serve", "--port", "0", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, json.loads(process.stdout.readline())["address"]
    finally:
        process.send_signal(signal.SIGTERM)
        _, process.log = process.communicate(timeout=20)


def test_a_service_from_its_printed_address_to_its_end():
    with served() as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            assert client.get("/healthz").json() == {"status": "ok"}
            assert client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
            body = EXAMPLES["named_device"]["value"] | {"budget": {"ram_bytes": 100}}
            assert client.post("/v1/plans", json=body).json()["code"] == "ram_below_floor"
            huge = client.post(
                "/v1/plans",
                content=b" " * (17 * 2**20),
                headers={"Content-Type": "application/json"},
            )
            assert huge.status_code == 413
            assert "server" not in huge.headers
    lines = [json.loads(line) for line in process.log.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 421, 422, 413]
    assert all(line["time"] and line["level"] == "info" for line in requests)


def test_planning_at_the_service_is_planning_here(poet, documents, graph):
    here = poet("plan", "graph.json", "--device", "mkr1000", "--ram", "16400B", "--json")
    with served() as (_, address):
        there = poet(
            "plan", "graph.json", "--device", "mkr1000", "--ram", "16400B", "--server", address,
            "-o", "there.json", "--json",
        )  # fmt: skip
    assert (here.code, there.code) == (0, 0)
    for name in ("peak_bytes", "energy_joules", "step_seconds", "gap"):
        assert there.json[name] == pytest.approx(here.json[name], rel=1e-9)
    assert poet("verify", "graph.json", "there.json").code == 0


def test_an_interrupt_ends_it_quietly():
    with served() as (process, address):
        assert httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert "Traceback" not in process.log


def test_more_names_can_be_allowed():
    with (
        served("--allow-host", "planner.local") as (_, address),
        httpx.Client(base_url=address, trust_env=False) as client,
    ):
        for host, status in (("planner.local", 200), ("localhost", 200), ("evil", 421)):
            assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--host", "0.0.0.0"), "remote_not_allowed"),
        (("--host", "::"), "remote_not_allowed"),
        (("--host", ""), "host_invalid"),
        (("--host", "no such host"), "host_invalid"),
        (("--port", "70000"), "usage"),
    ],
)
def test_where_it_does_not_listen(poet, arguments, code):
    result = poet("serve", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


def test_a_port_that_is_taken(poet):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = poet("serve", "--port", taken.getsockname()[1], "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "port_unavailable")
