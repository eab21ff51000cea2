"""Opening a store: which URLs there are, and what the file on the disk is like."""

import stat

import pytest

from poet_core.errors import ServiceError, UsageError
from poet_service.database.engine import open_store


@pytest.mark.parametrize(
    "url",
    ["", "poet.db", "mysql://host/name", "sqlite://", "sqlite:///:memory:", "oracle:///x", "://"],
)
def test_what_is_no_database_of_ours(url):
    with pytest.raises(UsageError) as caught:
        open_store(url)
    assert caught.value.code == "database_url_invalid"


def test_no_error_repeats_a_password():
    for url in ("mysql://user:hunter2@host/name", "postgresql://user:hunter2@host:x/name"):
        with pytest.raises(UsageError) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_there():
    with pytest.raises(ServiceError) as caught:
        open_store("postgresql://user:hunter2@127.0.0.1:1/name")
    assert caught.value.code == "database_unavailable"
    assert "hunter2" not in str(caught.value)


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(ServiceError) as caught:
        open_store(f"sqlite:///{tmp_path}/missing/poet.db")
    assert caught.value.code == "database_unavailable"
    assert "folder" in str(caught.value)


def test_nobody_else_may_read_the_file(sqlite_file):
    store = open_store(f"sqlite:///{sqlite_file}")
    store.secret()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in sqlite_file.parent.iterdir()}
    store.close()
    assert modes == {"poet.db": 0o600, "poet.db-wal": 0o600, "poet.db-shm": 0o600}


def test_a_closed_store_leaves_one_file(sqlite_file):
    store = open_store(f"sqlite:///{sqlite_file}")
    store.secret()
    store.close()
    assert [path.name for path in sqlite_file.parent.iterdir()] == ["poet.db"]


def test_how_sqlite_is_set_up(sqlite_file):
    store = open_store(f"sqlite:///{sqlite_file}")

    def pragma(name):
        return store._database.read(
            lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        )

    found = {name: pragma(name) for name in ("journal_mode", "synchronous", "foreign_keys")}
    store.close()
    assert found == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1}
