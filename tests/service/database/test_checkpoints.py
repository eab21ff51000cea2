"""What is written reaches SQLite's database file without a writer waiting for it."""

import contextlib
import shutil
import sqlite3
import threading
import time

import pytest

from poet_service.database import checkpoints
from poet_service.database.engine import open_store
from tests.service.database.scenes import Scene

# More than the 1,000 pages of 4 KiB after which a commit would do it by SQLite's own default.
LARGE = b"request" * 2**20


def solves_in_the_file_alone(file):
    """Without the log beside it, as a reader finds it that has only this file."""
    copy = file.with_name("copy.db")
    shutil.copyfile(file, copy)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM solves").fetchone()[0]
        except sqlite3.DatabaseError:  # no table has arrived yet, or half a checkpoint has
            return 0


@pytest.fixture
def scene_of(sqlite_file, monkeypatch):
    """A store whose checkpoints come every so many seconds."""
    with contextlib.ExitStack() as opened:

        def make(every_seconds):
            monkeypatch.setattr(checkpoints, "_EVERY_SECONDS", every_seconds)
            store = open_store(f"sqlite:///{sqlite_file}")
            opened.callback(store.close)
            return Scene(store)

        yield make


def test_a_commit_does_not_wait_for_the_checkpoint(scene_of, sqlite_file):
    scene_of(3600.0).submit(request=LARGE)
    assert solves_in_the_file_alone(sqlite_file) == 0


def test_what_was_written_is_in_the_file_soon(scene_of, sqlite_file):
    scene = scene_of(0.01)
    for number in (1, 2):
        scene.submit(b"%d" % number, request=LARGE)
        deadline = time.monotonic() + 60
        while solves_in_the_file_alone(sqlite_file) != number:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_file_that_was_taken_away_is_not_made_again(sqlite_file):
    with pytest.raises(sqlite3.OperationalError):
        checkpoints.Checkpointer(str(sqlite_file))._checkpoint()
    assert not sqlite_file.exists()


def test_the_thread_ends_with_the_store(sqlite_file):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "poet-checkpoints"]

    before = threads()
    store = open_store(f"sqlite:///{sqlite_file}")
    Scene(store).submit()
    assert len(threads()) == len(before) + 1
    store.close()
    assert threads() == before
