"""A Store in a file, and nurseries: of the planner's children and of odd ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from poet_service.database.engine import open_store
from poet_service.database.store import Store
from poet_service.execution.nursery import Nursery


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the schema and nothing in it; to be copied, for making one takes a while."""
    file = tmp_path_factory.mktemp("database") / "poet.sqlite3"
    open_store(f"sqlite:///{file}").close()
    return file


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> str:
    """The URL of a database of the test's own."""
    copy = tmp_path / "poet.sqlite3"
    shutil.copyfile(empty_database, copy)
    return f"sqlite:///{copy}"


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    opened = open_store(database)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("planner")) as opened:
        yield opened


@pytest.fixture(scope="session")
def odd_nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    folder = tmp_path_factory.mktemp("odd")
    with Nursery(folder, child="tests.service.execution.odd_child") as opened:
        yield opened
        assert list(folder.rglob("solve-*")) == []
