"""A solver never outlives, outgrows or litters: by limit, cancel, memory cap and dead parents."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from poet_solvers.backends import SolveLimits, SolveStatus, solve_model
from poet_solvers.backends.process import GRACE_SECONDS, ProcessEnd, private_folder, run_solver
from tests.measuring import least_seconds
from tests.solvers.models import market_split
from tests.solvers.solver_processes import (
    assert_nothing_left,
    command_lines,
    parent_of,
    solver_in,
    wait_until,
)

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
@pytest.mark.alone
@pytest.mark.parametrize("backend", ["cbc", "highs"])
@pytest.mark.parametrize("after_seconds", [0.0, 0.03, 0.5])
def test_a_cancelled_solve_leaves_no_process_and_no_file(backend, after_seconds, scratch):
    def attempt():
        cancel = threading.Event()
        timer = threading.Timer(after_seconds, cancel.set)
        timer.start()
        started = time.monotonic()
        result = solve_model(market_split(with_slack=True), backend=backend, cancel=cancel)
        took = time.monotonic() - started
        assert result.status is SolveStatus.CANCELLED
        assert (result.objective, result.values) == (None, {})
        timer.join()
        assert_nothing_left(scratch)
        return took

    assert least_seconds(attempt, after_seconds + 1.5) < after_seconds + 1.5


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
    assert_nothing_left(scratch)


@linux
def test_a_solver_that_ignores_its_limit_is_killed(scratch):
    started = time.monotonic()
    with private_folder() as folder:
        result = run_solver(
            SLEEPER, folder=folder, wall_seconds=0.1, memory_bytes=None, cancel=None
        )
    assert result.end is ProcessEnd.KILLED_AT_LIMIT
    assert GRACE_SECONDS <= time.monotonic() - started < GRACE_SECONDS + 3
    assert_nothing_left(scratch)


PROGRAMS = {
    "a solve": (
        "from poet_solvers.backends import solve_model\n"
        "from tests.solvers.models import market_split\n"
        "solve_model(market_split(with_slack=True), backend={backend!r})\n"
    ),
    "a planner": (
        "from poet_core.plan import Allowed\n"
        "from poet_solvers import plan\n"
        "from tests.solvers.milp_cases import unit_chain\n"
        "plan(unit_chain(22, 3, 5.0, Allowed(page=False)), planner='poet-milp', backend={backend!r})\n"
    ),
}


@linux
@pytest.mark.parametrize("backend", ["cbc", "highs"])
@pytest.mark.parametrize(
    ("program", "victim"),
    [
        ("a solve", "the parent"),
        ("a solve", "the supervisor"),
        ("a solve", "the solver"),
        ("a planner", "the parent"),
    ],
)
def test_nothing_outlives_a_killed(program, victim, backend, scratch):
    """SIGKILL cannot be caught: whoever is left has to notice and clean up."""
    with _running(PROGRAMS[program].format(backend=backend), scratch) as parent:
        wait_until(lambda: solver_in(parent.pid) is not None)
        solver = solver_in(parent.pid)
        pids = {"the parent": parent.pid, "the supervisor": parent_of(solver), "the solver": solver}
        os.kill(pids[victim], signal.SIGKILL)
        parent.wait(timeout=10)
        wait_until(lambda: not command_lines(scratch) and not list(scratch.iterdir()))
        assert (parent.returncode == -signal.SIGKILL) == (victim == "the parent")


@linux
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_outlives_a_parent_that_is_told_to_end(how, scratch):
    with _running(PROGRAMS["a solve"].format(backend="cbc"), scratch) as parent:
        wait_until(lambda: solver_in(parent.pid) is not None)
        parent.send_signal(how)
        parent.wait(timeout=10)
        wait_until(lambda: not command_lines(scratch) and not list(scratch.iterdir()))
        assert parent.returncode != 0


@contextlib.contextmanager
def _running(program, scratch):
    begin = f"import tempfile\ntempfile.tempdir = {str(scratch)!r}\n"
    parent = subprocess.Popen(
        [sys.executable, "-c", begin + program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield parent
    finally:
        parent.kill()
        parent.wait(timeout=10)


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
