"""Database: each call is one transaction, and what goes wrong comes out as ServiceError.

A transaction that lost a race (a unique row, a deadlock) or its connection before the commit was
sent has left nothing behind, so it runs again; after that it is an error. A commit whose answer did
not come may have happened: it is never repeated.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from poet_core.errors import ServiceError
from poet_service.database.checkpoints import Checkpointer
from poet_service.database.failures import Failure, failure_of

_Result = TypeVar("_Result")

_TRIES = 4
# Everything that makes new solves on PostgreSQL holds this advisory lock, so that queue limits are
# exact. Any number does, as long as nobody else uses it on this database.
_ADVISORY_LOCK = 0x706F6574
# 4 MiB of SQLite's pages of 4 KiB: some milliseconds in which other writers wait.
_PAGES_AT_ONCE = 1024


class Database:
    """An engine, and how its two dialects begin a transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        # A statement that only reads needs no transaction; on PostgreSQL that saves two round trips.
        self._reader = (
            engine if self.is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        )
        # SQLite has one writer; waiting for it here is fair and wakes at once, its own busy handler
        # sleeps. It stays in use for writers of other processes.
        self._writer = threading.Lock()
        file = engine.url.database
        self._checkpoints = Checkpointer(file) if self.is_sqlite and file else None

    def read(self, work: Callable[[Connection], _Result]) -> _Result:
        """The result of `work`, which changes nothing. Raises ServiceError."""
        for last in (False, True):
            try:
                with self._reader.connect() as connection:
                    return work(connection)
            except SQLAlchemyError as error:
                if last or not _connection_lost(error):
                    raise failure_of(error).error() from error
        raise Failure.UNAVAILABLE.error()

    def write(self, work: Callable[[Connection], _Result]) -> _Result:
        """The result of `work`, whose changes are stored together or not at all. Raises
        ServiceError. `work` may run again, so it changes nothing outside of the database."""
        for attempt in range(_TRIES):
            committing = False
            try:
                with self._begun() as connection:
                    result = work(connection)
                    committing = True
                    connection.commit()
                    self._note_commit()
                    return result
            except SQLAlchemyError as error:
                failure = failure_of(error)
                again = failure is Failure.CONFLICT or (
                    _connection_lost(error) and not committing and attempt == 0
                )
                if not again or attempt == _TRIES - 1:
                    raise failure.error() from error
        raise Failure.CONFLICT.error()

    def queue_lock(self, connection: Connection) -> None:
        """Until the commit, no other transaction that asked for this lock runs."""
        if not self.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")

    def migration_lock(self, connection: Connection) -> None:
        """Until the commit, no other process migrates; one that comes second waits for it."""
        if not self.is_sqlite:
            # A migration may take longer than a request may.
            connection.exec_driver_sql("SET LOCAL statement_timeout = '10min'")
            connection.exec_driver_sql("SET LOCAL lock_timeout = '10min'")
            self.queue_lock(connection)

    def shrink(self) -> None:
        """Give the disk what erased rows leave free, in small steps. PostgreSQL does by itself."""
        if not self.is_sqlite:
            return
        while self.write(_shrink_once):
            pass

    def close(self) -> None:
        """Give every connection back."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        self.engine.dispose()

    def _note_commit(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.note()

    @contextmanager
    def _begun(self) -> Iterator[Connection]:
        if not self.is_sqlite:
            with self.engine.connect() as connection:
                yield connection
            return
        with self._writer, self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection


def _shrink_once(connection: Connection) -> bool:
    # One step frees one page, and only a cursor that is read to its end steps on.
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
    cursor.fetchall()
    cursor.close()
    return bool(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())


def _connection_lost(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and error.connection_invalidated


def row_invalid(what: str, name: str) -> ServiceError:
    """A stored row that this program did not write like that."""
    return ServiceError(
        f"The stored {what} {name} is damaged: its columns do not have the values they may have.",
        code="database_corrupted",
        hint="The operator restores the database from a backup, or erases that row.",
        details={"what": what, "name": name},
    )
