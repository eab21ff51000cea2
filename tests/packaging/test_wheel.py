"""The wheel carries every package and its data, and `poet` runs from it where neither this tree nor torch is."""

import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.outside import REPOSITORY, Distribution, run

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
VERSION = PROJECT["project"]["version"]
PACKAGES = [Path(folder) for folder in PROJECT["tool"]["scikit-build"]["wheel"]["packages"]]


@pytest.fixture(scope="module")
def installed(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh environment that holds the wheel with its base dependencies only."""
    folder = tmp_path_factory.mktemp("installed")
    made = run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    assert made.returncode == 0, made.stderr
    binaries = folder / "venv" / "bin"
    constraints = REPOSITORY / "constraints.txt"
    pip = (binaries / "python", "-m", "pip", "install", "--quiet", "--no-compile")
    result = run(*pip, "--constraint", constraints, distribution.wheel, cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    return binaries


def test_the_wheel_holds_every_file_of_every_package(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as wheel:
        held = set(wheel.namelist())
    expected = {
        (Path(package.name) / file.relative_to(REPOSITORY / package)).as_posix()
        for package in PACKAGES
        for pattern in ("*.py", "*.toml", "*.json", "py.typed")
        for file in (REPOSITORY / package).rglob(pattern)
    }
    assert any(name.endswith(".toml") for name in expected), "device profiles are package data"
    assert expected <= held, sorted(expected - held)


def test_the_wheel_holds_nothing_else(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as wheel:
        top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {package.name for package in PACKAGES} | {f"poet_planner-{VERSION}.dist-info"}


def test_the_sdist_can_be_tested_by_whoever_gets_it(distribution: Distribution) -> None:
    for name in ("LICENSE", "Makefile", "constraints.txt", "tests/packaging/test_wheel.py"):
        assert (distribution.unpacked / name).is_file(), name


def test_poet_says_its_version(installed: Path, tmp_path: Path) -> None:
    result = run(installed / "poet", "--version", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert VERSION in result.stdout


def test_poet_lists_every_device(installed: Path, tmp_path: Path) -> None:
    result = run(installed / "poet", "devices", "list", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    profiles = list((REPOSITORY / "device_profiles").glob("*.toml"))
    assert profiles
    for profile in profiles:
        name = tomllib.loads(profile.read_text(encoding="utf-8")).get("name", profile.stem)
        assert name in result.stdout


@pytest.mark.parametrize("module", ["torch", "fastapi", "pydantic", "sklearn"])
def test_the_base_brings_no(module: str, installed: Path, tmp_path: Path) -> None:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is not None)"
    assert run(installed / "python", "-c", code, cwd=tmp_path).returncode == 0


def test_the_environment_does_not_see_this_tree(installed: Path, tmp_path: Path) -> None:
    code = "import poet_core, poet_solvers; print(poet_core.__file__, poet_solvers.__file__)"
    result = run(installed / "python", "-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert str(REPOSITORY) not in result.stdout
    assert result.stdout.count(str(installed.parent)) == 2


class TestNativePartsFail:
    """A machine without a compiler gets everything that is Python, unless native parts are required."""

    @pytest.fixture
    def broken(self, distribution: Distribution) -> Iterator[Path]:
        """The unpacked source, with a native part that does not configure."""
        lists = distribution.unpacked / "CMakeLists.txt"
        original = lists.read_text(encoding="utf-8")
        lists.write_text(original + '\nmessage(FATAL_ERROR "no compiler here")\n', encoding="utf-8")
        yield distribution.unpacked
        lists.write_text(original, encoding="utf-8")

    def build(self, source: Path, into: Path, **environment: str) -> int:
        pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", into)
        return run(*pip, source, cwd=into, **environment).returncode

    def test_the_wheel_is_built_without_them(self, broken: Path, tmp_path: Path) -> None:
        assert self.build(broken, tmp_path) == 0
        (wheel,) = tmp_path.glob("*.whl")
        assert wheel.name.endswith("-py3-none-any.whl")

    def test_the_build_fails_where_they_are_required(self, broken: Path, tmp_path: Path) -> None:
        assert self.build(broken, tmp_path, POET_REQUIRE_NATIVE="1") != 0
        assert not list(tmp_path.glob("*.whl"))
