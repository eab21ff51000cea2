"""The command line in this process, and documents on disk."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import pytest

from poet_cli.main import run
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest
from poet_service.openapi import EXAMPLES
from tests.service.conftest import keep_everything_planner


@dataclasses.dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture
def poet(capsys, tmp_path, monkeypatch):
    """poet("verify", "graph.json", ...) in an empty folder; no run may show a traceback."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POET_DEBUG", raising=False)

    def call(*arguments):
        code = run([str(item) for item in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Result(code, captured.out, captured.err)

    return call


class _Never:
    def is_set(self):
        return False


def plan_for(graph, ram_bytes=32768, device="mkr1000"):
    """Keep-everything as a plan."""
    problem = PlanRequest(graph=graph, device=device, ram_bytes=ram_bytes).problem()
    return keep_everything_planner(
        problem,
        planner="portfolio",
        backend="none",
        wall_seconds=0.0,
        patience_seconds=1.0,
        cancel=_Never(),
    )


@pytest.fixture
def graph():
    return graph_from_document(EXAMPLES["named_device"]["value"]["graph"])


@pytest.fixture
def nobody():
    """An address that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def at_once(monkeypatch):
    """A client that does not pause between tries."""
    monkeypatch.setattr("poet_client.transport.time.sleep", lambda _: None)


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    """Whoever runs the tests may have one."""
    for name in ("POET_TOKEN", "POET_TOKEN_FILE", "POET_SERVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def documents(tmp_path, graph):
    """graph.json and plan.json in the current folder."""
    write(tmp_path / "graph.json", graph_to_document(graph))
    write(tmp_path / "plan.json", plan_to_document(plan_for(graph)))
    return tmp_path


def write(path, document):
    path.write_text(json.dumps(document))
    return path


def poet_process(*arguments, cwd, **environment):
    """`poet` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "poet_cli.main", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
