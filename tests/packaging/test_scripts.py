"""The scripts behind make: the right Python is found, and a missing one gets one sentence."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.packaging.outside import REPOSITORY, run

FIND_PYTHON = REPOSITORY / "scripts" / "find_python.sh"
BASH = shutil.which("bash") or "bash"


def command(folder: Path, name: str, body: str) -> Path:
    """An executable script in a folder."""
    path = folder / name
    path.write_text(f"#!{BASH}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    command(tmp_path, "python3.11", "echo 'command not found' >&2; exit 127")
    works = command(tmp_path, "python3.12", f'exec {sys.executable} "$@"')
    result = run(BASH, FIND_PYTHON, cwd=tmp_path, PATH=str(tmp_path))
    assert (result.returncode, result.stdout.strip()) == (0, str(works))


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_of_another_version_is_not_taken(version: tuple[int, int], tmp_path: Path) -> None:
    pretend = f"import sys; sys.version_info = {version!r}; exec(sys.argv[2])"
    command(tmp_path, "python3", f'exec {sys.executable} -c "{pretend}" "$@"')
    assert run(BASH, FIND_PYTHON, cwd=tmp_path, PATH=str(tmp_path)).returncode == 1


def test_no_python_at_all_gets_one_sentence(tmp_path: Path) -> None:
    result = run(BASH, FIND_PYTHON, cwd=tmp_path, PATH=str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "3.11" in result.stderr
    assert "PYTHON=" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="make and bash are POSIX tools")
def test_help_names_every_target(tmp_path: Path) -> None:
    result = run("make", "--no-print-directory", "-C", REPOSITORY, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    phony = next(line for line in makefile.splitlines() if line.startswith(".PHONY:"))
    for target in phony.removeprefix(".PHONY:").split():
        assert target == "help" or f"make {target}" in result.stdout
