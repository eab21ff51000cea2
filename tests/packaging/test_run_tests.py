"""The runner of the tests: every test once, each in its part, and one honest last line."""

import json
import os
import re
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.packaging.outside import REPOSITORY, run

SETTINGS = '[tool.pytest]\nmarkers = ["alone: measures", "slow: slow"]\n'
TESTS = """
import json, os, pathlib, pytest

@pytest.fixture(autouse=True)
def told(request):
    where = os.environ.get("PYTEST_XDIST_WORKER", ""), os.environ.get("OMP_NUM_THREADS", "")
    pathlib.Path(request.node.name + ".json").write_text(json.dumps(where))

def test_plain(): pass
def test_other(): pass
def test_skipped(): pytest.skip("for a reason")
def test_wrong(): raise ValueError
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.alone
def test_alone(): pass
@pytest.mark.alone
def test_alone_and_wrong(): raise ValueError
@pytest.mark.alone
@pytest.mark.slow
def test_slow_alone(): pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(SETTINGS, encoding="utf-8")
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


def ran(project: Path, *arguments: str, cores: int = 2) -> CompletedProcess[str]:
    code = f"import sys; from scripts.run_tests import main; sys.exit(main(sys.argv[1:], {cores}))"
    path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    return run(
        sys.executable, "-c", code, "-p", "no:cacheprovider", *arguments, cwd=project,
        PYTHONPATH=path, OMP_NUM_THREADS="",
        # Of the plugins that are installed, those that matter here: some take seconds to import.
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_PLUGINS="xdist.plugin",
        PYTEST_XDIST_WORKER="",  # of the run that this test is a part of
    )  # fmt: skip


def told(project: Path) -> dict[str, tuple[str, str]]:
    """Of each test that ran, its worker and its number of threads."""
    return {file.stem: tuple(json.loads(file.read_text())) for file in project.glob("*.json")}


def test_every_test_runs_once_in_its_part(project: Path) -> None:
    ended = ran(project, "-m", "not slow")
    assert ended.returncode == pytest.ExitCode.TESTS_FAILED, ended.stdout
    *_, first, second, last = ended.stdout.splitlines()
    assert re.fullmatch(r"=+ 2 failed, 3 passed, 1 skipped in \d+\.\d\ds =+", last), last
    assert first == "FAILED test_some.py::test_wrong"
    assert second == "FAILED test_some.py::test_alone_and_wrong"
    where = told(project)
    alone = {name for name in where if "alone" in name}
    assert alone == {"test_alone", "test_alone_and_wrong"}
    assert {where.pop(name) for name in alone} == {("", "")}
    assert where.keys() == {"test_plain", "test_other", "test_skipped", "test_wrong"}
    assert {worker for worker, _ in where.values()} <= {"gw0", "gw1"}
    assert {threads for _, threads in where.values()} == {"1"}


def test_on_one_core_it_is_pytest_in_one_process(project: Path) -> None:
    ended = ran(project, "-m", "not slow", "-k", "not wrong", cores=1)
    assert ended.returncode == 0, ended.stdout
    assert "3 passed, 1 skipped, 4 deselected" in ended.stdout.splitlines()[-1]
    assert {worker for worker, _ in told(project).values()} == {""}


def test_a_part_without_tests_is_no_failure_and_two_are(project: Path) -> None:
    ended = ran(project, "-k", "test_plain")
    assert ended.returncode == 0, ended.stdout
    assert " 1 passed in " in ended.stdout.splitlines()[-1]
    ended = ran(project, "-k", "nothing_of_that_name")
    assert ended.returncode == pytest.ExitCode.NO_TESTS_COLLECTED
    assert " no tests ran in " in ended.stdout.splitlines()[-1]


def test_a_wrong_argument_ends_it(project: Path) -> None:
    ended = ran(project, "--no-such-option")
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--no-such-option" in ended.stderr
    assert ended.stderr.count("usage:") == 1
