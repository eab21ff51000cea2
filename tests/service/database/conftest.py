"""One store, on SQLite and, where tests are allowed to be slow, on a real PostgreSQL."""

import shutil

import pytest

from poet_service.database.engine import open_store
from tests.service.database.scenes import Scene, SettableClock, empty
from tests.service.postgres import postgres_server  # noqa: F401 - a fixture

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def postgres_url(request):
    """One database for all tests here: each empties the tables before it begins."""
    return request.getfixturevalue("postgres_server").make_database()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory):
    """An empty SQLite database; a copy of it is made faster than a new one."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=BOTH)
def database_url(request, tmp_path):
    """Where a store may be opened; its tables are empty."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "poet.db")
        return f"sqlite:///{tmp_path}/poet.db"
    url = request.getfixturevalue("postgres_url")
    store = open_store(url)
    empty(store)
    store.close()
    return url


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
def store(database_url, clock):
    store = open_store(database_url, clock=clock)
    yield store
    store.close()


@pytest.fixture
def scene(store):
    return Scene(store)


@pytest.fixture
def sqlite_file(tmp_path):
    """Where an SQLite database may be made, for what only a file can suffer."""
    return tmp_path / "poet.db"
