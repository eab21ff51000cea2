"""`poet worker` where it cannot begin: one clear error, no traceback, no password."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from poet_cli.main import run
from poet_core.errors import UsageError
from poet_service.execution.distributed_queue import conninfo_of

NOBODY = "postgresql://poet:hunter2@127.0.0.1:1/poet"  # port 1 is nobody's

Command = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def worker(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """worker("--solves", "2") -> exit code and error document."""
    monkeypatch.setenv("POET_SERVICE_STATE_DIR", str(tmp_path / "state"))

    def call(*arguments: str) -> tuple[int, dict[str, Any]]:
        code = run(["worker", "--json", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "hunter2" not in out + err
        return code, json.loads(out)["error"]

    return call


@pytest.mark.parametrize("url", [None, "sqlite:///poet.db", "mysql://poet:hunter2@h/poet"])
def test_workers_need_a_database_that_machines_can_share(worker: Command, url: str | None) -> None:
    code, error = worker(*(["--database", url] if url else []))
    assert (code, error["code"]) == (2, "database_not_shared")
    assert "postgresql://" in error["hint"]


def test_a_text_that_is_no_url_is_not_repeated(worker: Command) -> None:
    code, error = worker("--database", "poet:hunter2@db")
    assert (code, error["code"]) == (2, "database_not_shared")


def test_a_server_that_is_not_there_is_said_so(worker: Command) -> None:
    code, error = worker("--database", NOBODY)
    assert (code, error["code"]) == (3, "database_unavailable")


def test_a_file_that_cannot_be_touched_is_refused_before_anything_is_connected(
    worker: Command, tmp_path: Path
) -> None:
    missing = tmp_path / "missing" / "alive"
    code, error = worker("--database", NOBODY, "--alive-file", str(missing))
    assert (code, error["code"]) == (2, "alive_file_unwritable")
    assert str(missing) in error["detail"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--solves", "0"], "--solves"),
        (["--solves", "many"], "--solves"),
        (["--grace", "-1"], "worker_grace_seconds"),
        (["--grace", "nan"], "worker_grace_seconds"),
        (["--database"], "--database"),
        (["somewhere"], "somewhere"),
    ],
)
def test_a_wrong_argument_is_named(worker: Command, arguments: list[str], name: str) -> None:
    code, error = worker(*arguments)
    assert code == 2
    assert name in error["detail"]


@pytest.mark.parametrize("module", ["procrastinate", "psycopg"])
def test_what_is_not_installed_is_named(
    worker: Command, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == module else find(name, *rest),
    )
    code, error = worker("--database", NOBODY)
    assert (code, error["code"]) == (2, "service_missing")
    assert module in error["detail"]
    assert "poet-planner[service]" in error["hint"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://poet:p%40ss@db.example:5433/poet",
        "postgresql+psycopg://poet:p%40ss@db.example:5433/poet",
    ],
)
def test_procrastinate_is_given_the_same_server_as_the_store(url: str) -> None:
    assert conninfo_of(url) == "postgresql://poet:p%40ss@db.example:5433/poet"


@pytest.mark.parametrize("url", ["", "x", "postgresql://h:port/x", "sqlite://", "oracle://h"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="PostgreSQL"):
        conninfo_of(url)
