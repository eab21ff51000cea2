"""One real trace, kept; then everything that it read changes in turn, and it is no longer believed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from poet_cli.check.cache import Cache
from poet_cli.check.tracing import Graph, TraceLimits, TraceTask, traced

_MODEL = """
import json, os
from pathlib import Path
import torch
from parts.layers import hidden

def step():
    folder = Path(__file__).parent
    width = json.loads((folder / "data" / "width.json").read_text())
    depth = int(os.environ.get("HONEST_DEPTH", "1"))
    names = sorted(path.name for path in (folder / "data").iterdir())
    if (folder / "override.json").exists():
        width = 7
    assert (folder / "weights.bin").read_bytes()
    layers = [hidden(width) for _ in range(depth)]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(width, len(names)))
    batch = torch.zeros(2, width), torch.zeros(2, dtype=torch.long)
    return model, torch.nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), batch
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("honest")
    for name in ("parts", "data", "site/thing-1.0.dist-info"):
        (folder / name).mkdir(parents=True)
    (folder / "model.py").write_text(_MODEL)
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "layers.py").write_text(
        "import torch\ndef hidden(width): return torch.nn.Linear(width, width)\n"
    )
    (folder / "data" / "width.json").write_text("4")
    (folder / "weights.bin").write_bytes(bytes(3 << 20))
    (folder / "site" / "thing-1.0.dist-info" / "METADATA").write_text("Version: 1.0\n")
    return folder


def _rewrite(name: str, text: str) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def change(folder: Path, _: pytest.MonkeyPatch) -> None:
        (folder / name).write_text(text)

    return change


def _upgrade(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "site" / "thing-1.0.dist-info").rename(folder / "site" / "thing-1.1.dist-info")


def _last_byte(folder: Path, _: pytest.MonkeyPatch) -> None:
    data = bytearray((folder / "weights.bin").read_bytes())
    data[-1] = 1
    (folder / "weights.bin").write_bytes(bytes(data))


CHANGES: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "the model": _rewrite("model.py", _MODEL + "\n"),
    "an imported helper": _rewrite("parts/layers.py", "def hidden(width): raise ValueError\n"),
    "a package that was empty": _rewrite("parts/__init__.py", "x = 1\n"),
    "a data file": _rewrite("data/width.json", "5"),
    "one byte of a large data file": _last_byte,
    "a variable": lambda _, monkeypatch: monkeypatch.setenv("HONEST_DEPTH", "2"),
    "a folder that is listed": _rewrite("data/more.txt", ""),
    "a file that was looked for": _rewrite("override.json", "1"),
    "a module of the same name": _rewrite("parts.py", ""),
    "an installed version": _upgrade,
}


def test_everything_that_a_trace_read_counts(project: Path, tmp_path: Path) -> None:
    task = TraceTask(step="model:step", batch_size=None, measured=False)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("HONEST_DEPTH", raising=False)
        monkeypatch.syspath_prepend(str(project / "site"))
        graph = traced(task, project, tmp_path, TraceLimits(wall_seconds=280.0), threading.Event())
        assert isinstance(graph, Graph), graph
        assert graph.footprint.unsure == ""
        Cache(tmp_path / "cache").keep_graph(task, project, graph)
        _each_change_is_seen(project, tmp_path / "cache", task)


def _each_change_is_seen(project: Path, folder: Path, task: TraceTask) -> None:
    for name, change in CHANGES.items():
        before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
        kept = Cache(folder).graph_of(task, project)
        assert kept is not None, (name, "before")
        with pytest.MonkeyPatch.context() as monkeypatch:
            change(project, monkeypatch)
            cache = Cache(folder)
            assert cache.graph_of(task, project) is None, name
            assert cache.why_traced(task), name
        for path in [path for path in project.rglob("*") if path.is_file()]:
            if path not in before:
                path.unlink()
        for path, data in before.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        for empty in (project / "site").glob("thing-1.1*"):
            empty.rmdir()
