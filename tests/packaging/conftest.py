"""The distribution as a user meets it: built once from this tree, outside this tree."""

import sys
import tarfile

import pytest

from tests.packaging.outside import REPOSITORY, Distribution, run


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
