"""Tracing in a child: whatever a model does, there is an answer, and nothing is left of it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from poet_cli.check.trace_advice import explained
from poet_cli.check.tracing import Graph, NoGraph, TraceLimits, TraceTask, traced
from poet_cli.loading import load_step
from poet_core.errors import PoetError, TraceError
from poet_core.graph_document import graph_sha256, read_graph
from tests.check.projects import BROKEN, TINY, write


@pytest.fixture
def trace(tmp_path):
    """trace("crashes") -> what tracing broken:crashes gives; nothing temporary may be left."""
    folder = write(tmp_path, broken=BROKEN)
    work = tmp_path / "work"
    work.mkdir()

    def call(
        function, *, seconds=120.0, cancel=None, memory=None, module="broken", batch_size=None
    ):
        found = traced(
            TraceTask(step=f"{module}:{function}", batch_size=batch_size, measured=False),
            folder,
            work,
            TraceLimits(wall_seconds=seconds, memory_bytes=memory),
            cancel or threading.Event(),
        )
        assert list(work.iterdir()) == []
        return found

    call.folder = folder
    return call


@pytest.mark.parametrize(
    ("function", "code", "message", "hint"),
    [
        ("crashes", "trace_crashed", "SIGSEGV", "--verbose"),
        ("is_killed", "trace_killed", "memory", "batch_size"),
        ("exits", "step_exited", "sys.exit(3)", "__main__"),
        ("ends", "step_exited", "status 7", "os._exit"),
        ("needs_a_file", "step_file_missing", "weights.bin", 'Path(__file__).parent / "weights.bin"'),
        ("raises", "step_failed", "ValueError", "--verbose"),
        ("is_too_large", "trace_out_of_memory", "memory", "batch_size"),
        ("wants_cuda", "step_needs_cuda", "CUDA", "torch.cuda.is_available()"),
        ("reads_input", "step_failed", "EOFError", "--verbose"),
        ("krashes", "step_function_missing", "krashes", "broken:crashes"),
        ("writes_an_answer", "step_exited", "status 0", "os._exit"),
    ],
)  # fmt: skip
def test_a_broken_model_is_an_answer(trace, function, code, message, hint):
    found = trace(function)
    assert isinstance(found, NoGraph)
    assert (found.code, found.internal) == (code, False)
    assert message in found.message
    assert hint in found.hint
    assert "\x1b" not in found.message + found.hint


def test_a_module_that_is_not_there_is_answered_with_the_nearest(trace):
    found = trace("step", module="brokn")
    assert found.code == "step_module_missing"
    assert "Did you mean broken:step?" in found.hint


def test_a_batch_size_that_is_not_taken_is_told(trace):
    found = trace("raises", batch_size=8)
    assert found.code == "step_batch_size"
    assert "def raises(batch_size=8)" in found.hint


def test_a_model_that_hangs_is_ended_at_its_time(trace):
    found = trace("hangs", seconds=5.0)
    assert found.code == "trace_timed_out"
    assert "--trace-timeout 10" in found.hint


def test_what_a_model_prints_is_kept_up_to_its_end(trace):
    found = trace("prints_a_lot")
    assert found.code == "step_failed"
    assert "the end" in found.said
    assert len(found.said) < 100_000


def test_a_limit_on_memory_holds(trace):
    found = trace("allocates", memory=1 << 32)
    assert found.code == "trace_out_of_memory"


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=120.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


def test_what_a_model_started_ends_with_it_when_the_check_is_stopped(trace):
    cancel, found = threading.Event(), []
    thread = threading.Thread(target=lambda: found.append(trace("leaves_children", cancel=cancel)))
    thread.start()
    started = trace.folder / "child.pid"
    until(lambda: started.exists() and started.read_text())
    assert alive(int(started.read_text()))
    cancel.set()
    thread.join(120)
    assert found[0].code == "cancelled"
    until(lambda: not alive(int(started.read_text())))


def test_a_model_ends_with_the_process_that_traces_even_where_that_is_killed(tmp_path):
    folder = write(tmp_path, broken=BROKEN)
    script = (
        "import threading; from pathlib import Path\n"
        "from poet_cli.check.tracing import *\n"
        "task = TraceTask(step='broken:leaves_children', batch_size=None, measured=False)\n"
        "traced(task, Path(), Path('work'), TraceLimits(wall_seconds=600), threading.Event())\n"
    )
    (folder / "work").mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    started = folder / "child.pid"
    until(lambda: started.exists() and started.read_text())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not alive(int(started.read_text())))


def test_a_model_is_traced_with_its_footprint_and_what_it_prints_apart(trace):
    write(trace.folder, tiny=TINY)
    found = trace("step", module="tiny", batch_size=2)
    assert isinstance(found, Graph)
    graph = read_graph(found.document)
    assert graph_sha256(graph) == found.sha256
    assert graph.conditions["threads"] == "1"
    inputs = [one.size_bytes for one in graph.storages if one.role == "input"]
    assert 2 * 8 * 4 in inputs
    assert "a model that talks" in found.said
    assert str(trace.folder / "tiny.py") in [file.path for file in found.footprint.files]
    own = str(trace.folder / "work")
    assert not [path for path in found.footprint.folders_there if path.startswith(own)]


# -- mistakes that only torch sees, told in this process, which has it already -----------------------

_MISTAKES = """
import torch
from torch import nn

LOSS = nn.functional.cross_entropy

def parts():
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters()), (torch.zeros(3, 4), torch.zeros(3, dtype=int))

def three():
    model, optimizer, batch = parts()
    return model, optimizer, batch

def swapped():
    model, optimizer, batch = parts()
    return model, optimizer, LOSS, batch

class Forks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs):
        if inputs.sum() > 0:
            return self.layer(inputs)
        return -self.layer(inputs)

def forks():
    model = Forks()
    return model, LOSS, torch.optim.SGD(model.parameters()), parts()[2]

def on_cuda():
    model, optimizer, batch = parts()
    return nn.Linear(4, 2).to("cuda"), LOSS, optimizer, batch
"""


def told(folder, monkeypatch, function):
    import torch

    from poet_runtime.tracing.trace import trace as trace_step

    write(folder, mistaken=_MISTAKES)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sys.modules.pop("mistaken", None)
    with pytest.raises(PoetError) as error:
        trace_step(*load_step(f"mistaken:{function}"))
    return explained(error.value, f"mistaken:{function}", folder)


@pytest.mark.parametrize(
    ("function", "code", "message", "hint"),
    [
        ("three", "step_shape", "a tuple of 3", "return model, torch.nn.functional.cross_entropy"),
        ("swapped", "step_shape", "SGD", "(inputs, target)"),
        ("forks", "data_dependent", "mistaken.py", "torch.where(condition, a, b)"),
    ],
)
def test_a_new_users_mistake_is_told_with_what_to_write(
    tmp_path, monkeypatch, function, code, message, hint
):
    error = told(tmp_path, monkeypatch, function)
    assert error.code == code
    assert message in error.message
    assert hint in error.hint


def test_a_model_for_cuda_alone_is_told_with_what_to_write(tmp_path, monkeypatch):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has what the model wants")
    error = told(tmp_path, monkeypatch, "on_cuda")
    assert error.code == "step_needs_cuda"
    assert 'torch.device("cuda" if torch.cuda.is_available() else "cpu")' in error.hint


def test_what_is_no_error_of_ours_is_internal():
    error = explained(ZeroDivisionError("a \x1b fault"), "m:s", Path())
    assert (type(error), error.code) == (PoetError, "internal")
    assert "\x1b" not in error.message
    assert isinstance(explained(SystemExit(1), "m:s", Path()), TraceError)
