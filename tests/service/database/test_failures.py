"""What a database can suffer, and the error that comes out: never another one, never a wrong row."""

import contextlib
import os
import shutil
import sqlite3
import subprocess

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from poet_core.errors import ServiceError
from poet_service.database.engine import open_store
from poet_service.database.failures import Failure, failure_of
from tests.service.database.scenes import Scene


@pytest.fixture
def opened(sqlite_file):
    store = open_store(f"sqlite:///{sqlite_file}", busy_seconds=0.2)
    yield Scene(store)
    store.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB, and a way to make it read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    # Lazily: a store that a failed test left open must not leave the mount behind.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(folder):
    """A file that takes all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    assert shutil.disk_usage(folder).free == 0
    return filler


def _code(call):
    with pytest.raises(ServiceError) as caught:
        call()
    assert caught.value.hint
    assert caught.value.details["retry_after_seconds"] > 0
    return caught.value.code


def _pragma(store, text):
    """Set for the store's connection; there is one, because nothing runs at once here."""
    store._database.read(lambda connection: connection.exec_driver_sql(text).close())


def _by_hand(path, statement):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute(statement)
    connection.commit()
    connection.close()


class TestLocked:
    def test_writes_wait_and_then_say_so_reads_go_on(self, opened, sqlite_file):
        job = opened.finished().job
        other = sqlite3.connect(sqlite_file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        assert _code(lambda: opened.submit(b"new")) == "database_unavailable"
        assert opened.store.job(job.id, 1) == job
        other.execute("ROLLBACK")
        other.close()
        assert opened.submit(b"new").created_solve


class TestFull:
    def test_what_does_not_fit_is_refused_and_nothing_else_is_lost(self, small_disk):
        store = open_store(f"sqlite:///{small_disk}/poet.db")
        scene = Scene(store)
        job = scene.finished().job
        filler = _fill(small_disk)
        assert _code(lambda: scene.submit(b"new", request=b"x" * 500_000)) == "storage_full"
        assert store.find_solve("a", b"new") is None
        assert store.job(job.id, 1) == job
        assert store.plan(job.solve_id) == b"plan"
        store.ping()
        filler.unlink()
        assert scene.submit(b"new", request=b"x" * 500_000).created_solve
        store.close()

    def test_no_room_for_a_database(self, small_disk):
        _fill(small_disk)
        assert _code(lambda: open_store(f"sqlite:///{small_disk}/poet.db")) == "storage_full"

    def test_a_file_at_its_limit(self, opened):
        job = opened.finished().job
        _pragma(opened.store, "PRAGMA max_page_count = 1")  # as small as the file is now
        assert _code(lambda: opened.submit(b"new", request=b"x" * 500_000)) == "storage_full"
        assert opened.store.plan(job.solve_id) == b"plan"
        # Erasing takes no new pages, so an operator gets out of this.
        assert opened.store.sweep(older_than_seconds=0.0, most_bytes=0).jobs == 1


class TestReadOnly:
    def test_a_read_only_mount(self, small_disk):
        path = small_disk / "poet.db"
        open_store(f"sqlite:///{path}").close()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert _code(lambda: open_store(f"sqlite:///{path}")) == "storage_read_only"
        assert _code(lambda: open_store(f"sqlite:///{small_disk}/new.db")) == "storage_read_only"

    def test_a_database_that_became_read_only(self, opened):
        job = opened.finished().job
        _pragma(opened.store, "PRAGMA query_only = ON")
        assert _code(lambda: opened.submit(b"new")) == "storage_read_only"
        assert _code(lambda: opened.store.claim(job.solve_id, "w")) == "storage_read_only"
        assert opened.store.plan(job.solve_id) == b"plan"

    def test_a_file_of_somebody_else(self, sqlite_file):
        if os.geteuid() == 0:
            pytest.skip("root may write every file")
        open_store(f"sqlite:///{sqlite_file}").close()
        sqlite_file.chmod(0o400)
        assert _code(lambda: open_store(f"sqlite:///{sqlite_file}")) == "storage_read_only"


class TestCorrupted:
    def test_a_file_that_is_no_database(self, sqlite_file):
        sqlite_file.write_bytes(b"a plan for a garden\n" * 1000)
        before = sqlite_file.read_bytes()
        assert _code(lambda: open_store(f"sqlite:///{sqlite_file}")) == "database_corrupted"
        assert sqlite_file.read_bytes() == before

    def test_pages_that_were_overwritten(self, sqlite_file):
        store = open_store(f"sqlite:///{sqlite_file}")
        scene = Scene(store)
        for number in range(50):
            scene.finished(b"%d" % number, plan=b"x" * 10_000)
        store.close()
        size = sqlite_file.stat().st_size
        with sqlite_file.open("r+b") as file:
            file.seek(8192)  # behind the schema and its version
            file.write(b"\xa5" * (size - 8192))
        codes = set()
        try:
            store = open_store(f"sqlite:///{sqlite_file}")
        except ServiceError as error:
            codes.add(error.code)
        else:
            codes.add(_code(lambda: store.jobs(1, limit=10, before=None)))
            codes.add(_code(lambda: Scene(store).submit(b"new")))
            store.close()
        assert codes == {"database_corrupted"}

    def test_a_cut_file(self, sqlite_file):
        store = open_store(f"sqlite:///{sqlite_file}")
        for number in range(50):
            Scene(store).finished(b"%d" % number, plan=b"x" * 10_000)
        store.close()
        os.truncate(sqlite_file, 12_288)
        codes = set()
        try:
            store = open_store(f"sqlite:///{sqlite_file}")
        except ServiceError as error:
            codes.add(error.code)
        else:
            codes.add(_code(lambda: store.jobs(1, limit=100, before=None)))
            store.close()
        assert codes == {"database_corrupted"}

    @pytest.mark.parametrize(
        "change",
        [
            "state = 'sleeping'",
            "attempt = 'three'",
            "cost = 'cheap'",
            "error = '{'",
            "error = '[1]'",
            "created_at = 'yesterday'",
            "plan_bytes = 'many'",
        ],
    )
    def test_a_row_that_makes_no_sense(self, opened, sqlite_file, change):
        damaged, good = opened.finished(b"damaged"), opened.finished(b"good")
        _by_hand(sqlite_file, f"UPDATE solves SET {change} WHERE id = '{damaged.solve.id}'")
        with pytest.raises(ServiceError) as caught:
            opened.store.solve(damaged.solve.id)
        assert caught.value.code == "database_corrupted"
        assert caught.value.details == {"what": "solve", "name": damaged.solve.id}
        assert opened.store.solve(good.solve.id).has_plan
        # It can be erased like every other.
        assert opened.store.job(damaged.job.id, 1) == damaged.job

    @pytest.mark.parametrize("change", ["data = '{'", "data = '3'", "kind = 'rumour'"])
    def test_an_event_that_makes_no_sense(self, opened, sqlite_file, change):
        solve = opened.running()
        _by_hand(sqlite_file, f"UPDATE solve_events SET {change} WHERE seq = 2")
        with pytest.raises(ServiceError) as caught:
            opened.store.events(solve.id, 0, 10)
        assert caught.value.code == "database_corrupted"
        assert len(opened.store.events(solve.id, 2, 10)) == 0

    def test_a_database_that_disappears_and_comes_back_empty(self, tmp_path):
        """A restore from a backup that has other rows: what is gone is unknown, nothing else."""
        store = open_store(f"sqlite:///{tmp_path}/one.db")
        job = Scene(store).finished().job
        store.close()
        open_store(f"sqlite:///{tmp_path}/two.db").close()
        shutil.move(tmp_path / "two.db", tmp_path / "one.db")
        store = open_store(f"sqlite:///{tmp_path}/one.db")
        assert store.job(job.id, 1) is None
        assert store.find_solve("a", b"key") is None
        store.close()


class _PostgresError(Exception):
    def __init__(self, sqlstate, text=""):
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("sqlstate", "text", "failure"),
    [
        ("53100", "", Failure.FULL),
        ("53200", "", Failure.UNAVAILABLE),
        ("53300", "too many clients", Failure.UNAVAILABLE),
        ("58030", "could not extend file: No space left on device", Failure.FULL),
        ("58030", "", Failure.UNAVAILABLE),
        ("25006", "", Failure.READ_ONLY),
        ("42501", "", Failure.READ_ONLY),
        ("40001", "", Failure.CONFLICT),
        ("40P01", "", Failure.CONFLICT),
        ("55P03", "", Failure.UNAVAILABLE),
        ("57014", "", Failure.UNAVAILABLE),
        ("57P01", "", Failure.UNAVAILABLE),
        ("57P03", "", Failure.UNAVAILABLE),
        ("08006", "", Failure.UNAVAILABLE),
        ("28P01", "", Failure.UNAVAILABLE),
        ("3D000", "", Failure.UNAVAILABLE),
        ("XX001", "", Failure.CORRUPTED),
        ("42601", "", Failure.REFUSED),
        (None, "connection refused", Failure.UNAVAILABLE),
        (None, "No space left on device", Failure.FULL),
    ],
)
def test_what_postgresql_says(sqlstate, text, failure):
    assert failure_of(OperationalError("SELECT", {}, _PostgresError(sqlstate, text))) is failure


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("SQLITE_BUSY", Failure.UNAVAILABLE),
        ("SQLITE_BUSY_SNAPSHOT", Failure.UNAVAILABLE),
        ("SQLITE_LOCKED", Failure.UNAVAILABLE),
        ("SQLITE_CANTOPEN", Failure.UNAVAILABLE),
        ("SQLITE_IOERR_FSYNC", Failure.UNAVAILABLE),
        ("SQLITE_IOERR_SHMSIZE", Failure.FULL),
        ("SQLITE_FULL", Failure.FULL),
        ("SQLITE_READONLY", Failure.READ_ONLY),
        ("SQLITE_READONLY_DBMOVED", Failure.READ_ONLY),
        ("SQLITE_CORRUPT_INDEX", Failure.CORRUPTED),
        ("SQLITE_NOTADB", Failure.CORRUPTED),
        ("SQLITE_MISUSE", Failure.REFUSED),
        ("SQLITE_TOOBIG", Failure.REFUSED),
    ],
)
def test_what_sqlite_says(name, failure):
    driver = sqlite3.OperationalError()
    driver.sqlite_errorcode = getattr(sqlite3, name)
    assert failure_of(DBAPIError("SELECT", {}, driver)) is failure


def test_no_message_holds_what_was_asked(opened):
    _pragma(opened.store, "PRAGMA query_only = ON")
    with pytest.raises(ServiceError) as caught:
        opened.submit(b"new", request=b"my secret network")
    for said in (str(caught.value), str(caught.value.to_document())):
        assert "secret" not in said
        assert "INSERT" not in said
