"""What every test shares: where the data is, and how Hypothesis behaves on a busy machine."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parent.parent

# A slow example is a benchmark's business: two busy cores must not fail a property that holds.
settings.register_profile("poet", parent=settings.get_profile("default"), deadline=None)
settings.load_profile("poet")


def _folder(variable: str, default: Path, what: str) -> Path:
    """The folder that an environment variable names, or its default; skips the test where there is none."""
    folder = Path(os.environ.get(variable) or default)
    if not folder.is_dir():
        pytest.skip(f"{what} not found at {folder}: set {variable} to the folder that holds them")
    return folder


@pytest.fixture(scope="session")
def poet_data() -> Path:
    """The folder of data sets (mnist/, fashion-mnist/, ...)."""
    return _folder("POET_DATA", REPOSITORY.parent / "shared" / "data", "data sets")


@pytest.fixture(scope="session")
def poet_instances() -> Path:
    """The folder of published instances (poet/, moccasin/, aten/)."""
    return _folder("POET_INSTANCES", REPOSITORY.parent / "shared" / "instances", "instances")
