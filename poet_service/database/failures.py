"""What a database can say no to, as ServiceError: a stable code, and what an operator can do.

    database_unavailable   not there, not reachable, locked for too long, or the connection broke
    storage_full           no room on the disk for what should be written
    storage_read_only      the file, its folder, its mount or the server refuses writes
    database_corrupted     the file is no database, or its pages contradict each other
    database_conflict      the same row was fought over again and again
    database_refused       anything else: a defect here, or a database that was changed by hand

No message holds SQL, values or addresses: those may be a user's or secret. The exception from below
stays as __cause__, for the log.
"""

from __future__ import annotations

import re
import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from poet_core.errors import ServiceError

RETRY_AFTER_SECONDS = 5


class Failure(Enum):
    """Why a database said no: (code, message, hint)."""

    UNAVAILABLE = (
        "database_unavailable",
        "The database of the service cannot be reached or does not answer in time.",
        "Try again in a few seconds; the operator sees the reason in the log of the service.",
    )
    FULL = (
        "storage_full",
        "The disk under the database of the service is full, so nothing new can be stored.",
        "The operator frees space or lowers the retention; stored plans can still be read.",
    )
    READ_ONLY = (
        "storage_read_only",
        "The database of the service cannot be written.",
        "The operator lets the service's user write the file and its folder (or a primary server).",
    )
    CORRUPTED = (
        "database_corrupted",
        "The database of the service is damaged, or is no database.",
        "The operator restores a backup, or moves the file away to begin with an empty one.",
    )
    CONFLICT = (
        "database_conflict",
        "Other requests changed the same rows each time this one was tried.",
        "Try again in a few seconds.",
    )
    REFUSED = (
        "database_refused",
        "The database refused a statement of the service.",
        "The operator sees the reason in the log of the service.",
    )

    def error(self) -> ServiceError:
        """The ServiceError of this failure."""
        code, message, hint = self.value
        return ServiceError(
            message, code=code, hint=hint, details={"retry_after_seconds": RETRY_AFTER_SECONDS}
        )


# Primary result codes of SQLite, https://www.sqlite.org/rescode.html; extended ones end in these.
_OF_SQLITE = {
    sqlite3.SQLITE_BUSY: Failure.UNAVAILABLE,
    sqlite3.SQLITE_LOCKED: Failure.UNAVAILABLE,
    sqlite3.SQLITE_CANTOPEN: Failure.UNAVAILABLE,
    sqlite3.SQLITE_IOERR: Failure.UNAVAILABLE,
    sqlite3.SQLITE_PROTOCOL: Failure.UNAVAILABLE,
    sqlite3.SQLITE_FULL: Failure.FULL,
    sqlite3.SQLITE_READONLY: Failure.READ_ONLY,
    sqlite3.SQLITE_PERM: Failure.READ_ONLY,
    sqlite3.SQLITE_CORRUPT: Failure.CORRUPTED,
    sqlite3.SQLITE_NOTADB: Failure.CORRUPTED,
}
# The shared-memory file of a WAL database could not grow: that is a full disk, not a broken one.
_SQLITE_IOERR_SHMSIZE = sqlite3.SQLITE_IOERR | (19 << 8)

# SQLSTATEs of PostgreSQL, https://www.postgresql.org/docs/15/errcodes-appendix.html: the longest
# prefix decides.
_OF_SQLSTATE = {
    "08": Failure.UNAVAILABLE,  # connection exception
    "25006": Failure.READ_ONLY,  # read only transaction
    "28": Failure.UNAVAILABLE,  # wrong password or no such user
    "3D000": Failure.UNAVAILABLE,  # no such database
    "40": Failure.CONFLICT,  # serialization failure, deadlock
    "42501": Failure.READ_ONLY,  # insufficient privilege
    "53": Failure.UNAVAILABLE,  # out of memory, too many connections
    "53100": Failure.FULL,  # disk full
    "55P03": Failure.UNAVAILABLE,  # lock not available within lock_timeout
    "57": Failure.UNAVAILABLE,  # shut down, starting up, statement timeout
    "58": Failure.UNAVAILABLE,  # I/O error below the server
    "XX001": Failure.CORRUPTED,
    "XX002": Failure.CORRUPTED,
}
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


def failure_of(error: SQLAlchemyError) -> Failure:
    """Which failure an exception from below is."""
    if isinstance(error, IntegrityError):
        return Failure.CONFLICT
    if isinstance(error, PoolTimeoutError):
        return Failure.UNAVAILABLE
    if not isinstance(error, DBAPIError):
        return Failure.REFUSED
    driver = error.orig
    if isinstance(driver, sqlite3.Error):
        return _of_sqlite(driver)
    state = getattr(driver, "sqlstate", None)
    if state is None:
        # libpq met the trouble before the server could name it: no connection, or none any more.
        return Failure.FULL if _NO_ROOM.search(str(driver)) else Failure.UNAVAILABLE
    if _NO_ROOM.search(str(driver)):
        return Failure.FULL
    return next(
        (_OF_SQLSTATE[state[:length]] for length in (5, 2) if state[:length] in _OF_SQLSTATE),
        Failure.UNAVAILABLE if error.connection_invalidated else Failure.REFUSED,
    )


def _of_sqlite(error: sqlite3.Error) -> Failure:
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return Failure.REFUSED
    if code == _SQLITE_IOERR_SHMSIZE:
        return Failure.FULL
    return _OF_SQLITE.get(code & 0xFF, Failure.REFUSED)
