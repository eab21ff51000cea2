"""open_store: a database URL becomes a Store whose schema is the one that this program knows.

    sqlite:///relative.db    sqlite:////absolute/path.db    postgresql://user:password@host/name

SQLite runs in WAL mode with synchronous=NORMAL: a process that dies loses nothing, a machine that
loses power may lose the last moments (checkpoints.py), and never the file.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from poet_core.errors import ServiceError, UsageError
from poet_service.database.checkpoints import MOST_PAGES
from poet_service.database.failures import Failure
from poet_service.database.schema import migrate
from poet_service.database.store import Store
from poet_service.database.transactions import Database

# RETURNING came with SQLite 3.35 (2021-03-12).
_OLDEST_SQLITE = (3, 35, 0)


def open_store(
    url: str,
    *,
    clock: Callable[[], float] = time.time,
    new_id: Callable[[], str] = lambda: secrets.token_hex(16),
    connections: int = 8,
    busy_seconds: float = 5.0,
) -> Store:
    """The store at `url`, made or migrated where needed. At most `connections` are open at once;
    `busy_seconds` is how long a lock of another process is waited for. Raises UsageError
    (`database_url_invalid`) and ServiceError."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        engine = _sqlite(parsed, connections, busy_seconds)
    else:
        engine = _postgresql(parsed, connections, busy_seconds)
    database = Database(engine)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return Store(database, clock=clock, new_id=new_id)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so nobody repeats it.
        raise _url_invalid("something that is no database URL") from None
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        raise _url_invalid(f"a URL of {backend}")
    if backend == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise _url_invalid("an SQLite database in memory, which would forget every job")
    return parsed.set(drivername={"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}[backend])


def _url_invalid(got: str) -> UsageError:
    return UsageError(
        f"The database must be sqlite:///FILE or postgresql://USER@HOST/NAME, got {got}.",
        code="database_url_invalid",
        hint="Four slashes make an absolute path: sqlite:////var/lib/poet/poet.db",
    )


def _sqlite(url: URL, connections: int, busy_seconds: float) -> Engine:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise ServiceError(
            f"SQLite {'.'.join(map(str, _OLDEST_SQLITE))} or newer is needed, this Python has "
            f"{sqlite3.sqlite_version}.",
            code="database_unavailable",
            hint="Use a newer Python, or PostgreSQL.",
        )
    _make_private_file(Path(url.database or ""))
    engine = create_engine(
        url,
        connect_args={"timeout": busy_seconds, "check_same_thread": False, "isolation_level": None},
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_seconds,
    )
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _make_private_file(path: Path) -> None:
    """Others on the machine may not read requests and plans; SQLite gives its -wal and -shm files
    the mode of the database. A file that is there keeps its mode."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError as error:
        raise ServiceError(
            f"The folder of the database does not exist: {path.parent}",
            code="database_unavailable",
            hint="Make the folder and give it to the service's user.",
        ) from error
    except PermissionError as error:
        raise Failure.READ_ONLY.error() from error
    except OSError as error:
        if error.errno in _ERRORS_OF_OPEN:
            raise _ERRORS_OF_OPEN[error.errno].error() from error
        raise Failure.UNAVAILABLE.error() from error


_ERRORS_OF_OPEN = {
    errno.EROFS: Failure.READ_ONLY,
    errno.ENOSPC: Failure.FULL,
    errno.EDQUOT: Failure.FULL,
}


def _set_up_sqlite(connection: Any, record: object) -> None:  # noqa: ARG001 - SQLAlchemy passes both
    # auto_vacuum counts only before the first table is made; foreign_keys holds for a connection.
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "journal_size_limit = 67108864",
        "trusted_schema = OFF",
        f"wal_autocheckpoint = {MOST_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _postgresql(url: URL, connections: int, busy_seconds: float) -> Engine:
    milliseconds = int(busy_seconds * 1000)
    return create_engine(
        url,
        isolation_level="READ COMMITTED",
        connect_args={
            "connect_timeout": max(2, int(busy_seconds)),
            "application_name": "poet",
            # A server that vanished without a word is noticed in about 15 s instead of hours.
            "keepalives_idle": 5,
            "keepalives_interval": 5,
            "keepalives_count": 2,
            "tcp_user_timeout": 15_000,
            "options": f"-c lock_timeout={milliseconds} -c statement_timeout={6 * milliseconds} "
            f"-c idle_in_transaction_session_timeout={6 * milliseconds}",
        },
        pool_size=connections,
        max_overflow=0,
        pool_timeout=busy_seconds,
    )
