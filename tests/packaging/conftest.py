"""The distribution as a user meets it: built once from this tree, outside this tree."""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment without what would let a subprocess see this tree or this interpreter."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "POET_REQUIRE_NATIVE"}
    }
    return kept | changes


def run(
    *command: str | Path, cwd: Path, timeout_seconds: float = 240, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with captured output; the caller judges its exit status."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The two files that a release uploads, and the source that the first one unpacks to."""

    sdist: Path
    wheel: Path
    unpacked: Path


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The sdist of this tree, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("distribution")
    built = run(sys.executable, "-m", "build", "--outdir", folder, REPOSITORY, cwd=folder)
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Distribution(
        sdist=sdist, wheel=wheel, unpacked=folder / sdist.name.removesuffix(".tar.gz")
    )
