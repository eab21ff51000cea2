"""A solver never outlives, outgrows or litters: by limit, cancel, memory cap and dead parents."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from poet_solvers.backends import SolveLimits, SolveStatus, solve_model
from poet_solvers.backends.process import GRACE_SECONDS, ProcessEnd, private_folder, run_solver
from tests.solvers.models import market_split

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder in which every private folder of this test appears; its path has a space."""
    folder = tmp_path / "scratch folder"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@linux
@pytest.mark.parametrize("backend", ["cbc", "highs"])
@pytest.mark.parametrize("after_seconds", [0.0, 0.03, 0.5])
def test_a_cancelled_solve_leaves_no_process_and_no_file(backend, after_seconds, scratch):
    cancel = threading.Event()
    timer = threading.Timer(after_seconds, cancel.set)
    timer.start()
    started = time.monotonic()
    result = solve_model(market_split(with_slack=True), backend=backend, cancel=cancel)
    assert result.status is SolveStatus.CANCELLED
    assert time.monotonic() - started < after_seconds + 2
    assert (result.objective, result.values) == (None, {})
    timer.join()
    _assert_nothing_left(scratch)


@linux
@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_two_threads_may_solve_and_one_may_cancel(backend, scratch):
    """The cancel of one solve is not the end of another."""
    cancel = threading.Event()
    results = {}

    def solve(name, event):
        limits = SolveLimits(wall_seconds=1.0, threads=1)
        results[name] = solve_model(
            market_split(with_slack=True), backend=backend, limits=limits, cancel=event
        )

    threads = [
        threading.Thread(target=solve, args=arguments)
        for arguments in (("stopped", cancel), ("running", threading.Event()))
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    cancel.set()
    for thread in threads:
        thread.join()
    assert results["stopped"].status is SolveStatus.CANCELLED
    assert results["running"].status in (SolveStatus.FEASIBLE, SolveStatus.NOT_FOUND)
    _assert_nothing_left(scratch)


@linux
def test_a_solver_that_ignores_its_limit_is_killed(scratch):
    started = time.monotonic()
    with private_folder() as folder:
        result = run_solver(
            SLEEPER, folder=folder, wall_seconds=0.1, memory_bytes=None, cancel=None
        )
    assert result.end is ProcessEnd.KILLED_AT_LIMIT
    assert GRACE_SECONDS <= time.monotonic() - started < GRACE_SECONDS + 3
    _assert_nothing_left(scratch)


@linux
@pytest.mark.parametrize("victim", ["the parent", "the supervisor"])
def test_nothing_outlives_a_killed(victim, scratch):
    """SIGKILL cannot be caught: whoever is left has to notice and clean up."""
    program = (
        "import tempfile\n"
        f"tempfile.tempdir = {str(scratch)!r}\n"
        "from poet_solvers.backends import solve_model\n"
        "from tests.solvers.models import market_split\n"
        "solve_model(market_split(with_slack=True))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        _wait_until(lambda: any("model.mps" in line for line in _command_lines(scratch)))
        # A child of the supervisor that has not become the solver yet has the same command line.
        (supervisor,) = [
            pid
            for pid, line in _processes()
            if "supervisor.py" in line and _parent_of(pid) == parent.pid
        ]
        os.kill(parent.pid if victim == "the parent" else supervisor, signal.SIGKILL)
        parent.wait(timeout=10)
        _wait_until(lambda: not _command_lines(scratch) and not list(scratch.iterdir()))
    finally:
        parent.kill()
        parent.wait(timeout=10)


@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_a_memory_cap_holds(backend, scratch):
    limits = SolveLimits(wall_seconds=20, threads=1, memory_bytes=20_000_000)
    problem = market_split(with_slack=True, rows=30, columns=300)
    result = solve_model(problem, backend=backend, limits=limits)
    assert result.status is SolveStatus.MEMORY
    assert list(scratch.iterdir()) == []


def test_a_program_that_cannot_start_is_an_exit_status(scratch):
    with private_folder() as folder:
        result = run_solver(
            [str(folder / "missing")],
            folder=folder,
            wall_seconds=5,
            memory_bytes=None,
            cancel=None,
        )
    assert (result.end, result.exit_status) == (ProcessEnd.EXITED, 127)
    assert "cannot start" in result.log


def test_the_folder_goes_away_with_an_exception(scratch):
    with contextlib.suppress(KeyError), private_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.stat().st_mode & 0o077 == 0
        raise KeyError
    assert list(scratch.iterdir()) == []


def test_a_solver_sees_none_of_our_secrets(scratch, monkeypatch):
    monkeypatch.setenv("POET_TOKEN", "a-secret")
    with private_folder() as folder:
        result = run_solver(
            [sys.executable, "-c", "import os; print(sorted(os.environ))"],
            folder=folder,
            wall_seconds=20,
            memory_bytes=None,
            cancel=None,
        )
    assert "PATH" in result.log
    assert "POET_TOKEN" not in result.log


def _assert_nothing_left(scratch: Path) -> None:
    assert list(scratch.iterdir()) == []
    assert _command_lines(scratch) == []


def _command_lines(scratch: Path) -> list[str]:
    """Of every process that names the scratch folder or works in it, but for this one's."""
    found = []
    for pid, line in _processes():
        with contextlib.suppress(OSError):
            here = str(Path(f"/proc/{pid}/cwd").readlink()).startswith(str(scratch))
            if here or (str(scratch) in line and "supervisor.py" in line):
                found.append(line)
    return found


def _parent_of(pid: int) -> int | None:
    """proc(5), /proc/pid/stat: the fourth field, after a name that may hold spaces."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _processes() -> list[tuple[int, str]]:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                lines.append((int(entry.name), text.decode(errors="replace")))
    return lines


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "waited 15 s in vain"
        time.sleep(0.02)
