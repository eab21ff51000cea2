"""poet serve: a process of its own on a free port, reachable from here only."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from poet_service.openapi import EXAMPLES

TOKEN = "poet_" + "s" * 43


@contextlib.contextmanager
def served(folder, *arguments, **environment):
    """A service with its state in `folder`; `process.log` is what it logged when it has ended."""
    command = ["serve", "--port", "0", "--json", "--state-dir", str(folder), *arguments]
    process = subprocess.Popen(
        [sys.executable, "-m", "poet_cli.main", *command],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line, process.communicate()
        yield process, json.loads(line)["address"]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        rest, process.log = process.communicate(timeout=60)
        assert not rest


def client_of(address, **headers):
    return httpx.Client(base_url=address, trust_env=False, timeout=60, headers=headers)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("POET_SERVICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("POET_SERVICE_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def requests_logged(process):
    lines = [json.loads(line) for line in process.log.splitlines()]
    return [line for line in lines if line["event"] == "request"]


def test_a_service_from_its_printed_address_to_its_end(state):
    with served(state) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        with client_of(address) as client:
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
            assert client.get("/readyz").json() == {"status": "ready"}
            assert "poet_solves" in client.get("/metrics").text
        assert state.stat().st_mode & 0o077 == 0
    assert process.returncode == 0
    requests = requests_logged(process)
    assert [line["status"] for line in requests] == [200, 421, 422, 413, 200, 200]
    assert all(line["time"] and line["level"] == "info" for line in requests)
    assert "Traceback" not in process.log


def test_it_ends_within_seconds_though_somebody_follows_a_job(state):
    graph = EXAMPLES["named_device"]["value"]["graph"]
    body = {"graph": graph, "device": "mkr1000", "budget": {"ram_bytes": 20000}}
    with served(state, POET_SERVICE_SHUTDOWN_SECONDS="60") as (process, address):
        with client_of(address) as client:
            job = client.post("/v1/plans", json=body).json()
            followed = client.stream("GET", f"/v1/plans/{job['id']}/events")
            with followed as events, contextlib.suppress(httpx.TransportError):
                started = time.monotonic()
                process.send_signal(signal.SIGINT)
                events.read()
        process.wait(40)
        assert time.monotonic() - started < 40
    assert process.returncode == 0
    assert "Traceback" not in process.log
    assert "Cancel" not in process.log


def test_a_token_opens_a_public_address_and_its_text_is_nowhere(state):
    environment = {"POET_SERVICE_INITIAL_TOKEN": TOKEN, "POET_SERVICE_HEADER_SECONDS": "0.5"}
    with served(state, "--host", "0.0.0.0", **environment) as (process, printed):
        address = printed.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{address}/readyz", trust_env=False).status_code == 200
        assert httpx.get(f"{address}/v1/devices", trust_env=False).status_code == 401
        with client_of(address, Authorization=f"Bearer {TOKEN}", Host="any.example") as client:
            assert client.get("/v1/devices").status_code == 200
        # A connection that says nothing is not kept.
        where = httpx.URL(address)
        with socket.create_connection((where.host, where.port), timeout=30) as silent:
            assert silent.recv(1) == b""
    assert TOKEN not in process.log
    assert all(TOKEN.encode() not in file.read_bytes() for file in state.rglob("*.sqlite3*"))
    assert [line.get("token_id") for line in requests_logged(process)] == [None, None, 1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--host", "0.0.0.0"), "remote_not_allowed"),
        (("--host", "::"), "remote_not_allowed"),
        (("--host", "no such host"), "host_invalid"),
        (("--host", ""), "setting_invalid"),
        (("--port", "70000"), "usage"),
        (("--database", "mysql://a"), "database_url_invalid"),
        (("--config", "nothing.toml"), "config_unreadable"),
        (("--solves", "0"), "usage"),
    ],
)
def test_where_it_does_not_serve(poet, arguments, code):
    result = poet("serve", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


def test_a_state_folder_that_cannot_be(poet, tmp_path):
    (tmp_path / "file").write_text("")
    result = poet("serve", "--state-dir", tmp_path / "file" / "x", "--json")
    assert (result.code, result.json["error"]["code"]) == (3, "state_dir_unusable")


def test_a_port_that_is_taken(poet):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = poet("serve", "--port", taken.getsockname()[1], "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "port_unavailable")


def test_a_second_service_on_the_same_state_says_so(state, poet):
    with served(state) as (_, _):
        second = subprocess.run(
            [sys.executable, "-m", "poet_cli.main", "serve", "--port", "0", "--json",
             "--state-dir", str(state)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert second.returncode == 2
    assert json.loads(second.stdout)["error"]["code"] == "state_in_use"
    assert "Traceback" not in second.stdout + second.stderr


def test_settings_are_shown_with_their_origin_and_without_secrets(poet, monkeypatch, tmp_path):
    (tmp_path / "poet.toml").write_text("queue_depth = 17\n")
    monkeypatch.setenv("POET_SERVICE_DATABASE", "postgresql://poet:hush@db/poet")
    arguments = ("serve", "--show-settings", "--config", "poet.toml", "--solves", "3")
    rows = {row["key"]: row for row in poet(*arguments, "--json").json["settings"]}
    shown = {key: (row["value"], row["origin"]) for key, row in rows.items()}
    assert shown["queue_depth"] == (17, "file")
    assert shown["solves"] == (3, "command line")
    assert shown["database"] == ("(secret)", "environment")
    assert shown["port"] == (8080, "default")
    result = poet(*arguments)
    assert "queue_depth" in result.out
    assert "hush" not in result.out + result.err
