"""The tables of the queue: procrastinate's own schema, made and brought up to date at every start.

Invariant: whoever has returned from `ensure_queue_schema` finds exactly the schema of the
procrastinate that is installed. Several processes may start at once: an advisory lock makes one of
them do the work.

procrastinate ships its schema and a list of migrations but records no version, so we do: the name
of the last migration stands as a comment on its table of jobs. Each step and its record are one
transaction, and a transaction of its own (PostgreSQL wants a new value of an enum committed before
it is used), so a start that is killed is gone on with by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import psycopg
from procrastinate.schema import SchemaManager

from poet_core.errors import ServiceError

_LOCK = int.from_bytes(b"poetqueu")  # any constant that nobody else in this database would take
_RECORDED = "poet: procrastinate schema "
_WHOSE = "procrastinate_jobs"


def ensure_queue_schema(conninfo: str) -> None:
    """Create or upgrade the tables. Raises ServiceError (`database_unavailable`,
    `queue_schema_unknown`)."""
    try:
        with psycopg.connect(conninfo, connect_timeout=10, autocommit=True) as connection:
            # The lock goes with the connection.
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            _bring_up_to_date(connection, migrations())
    except psycopg.Error as error:
        raise queue_unavailable(error) from error


def migrations() -> list[Path]:
    """Every migration of the installed procrastinate, oldest first; their names sort so."""
    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def queue_unavailable(error: BaseException) -> ServiceError:
    """The error that a caller sees when the database does not answer; no password is in it."""
    first = str(error.__cause__ or error).strip().splitlines()
    return ServiceError(
        f"The database of the queue cannot be used: {first[0] if first else type(error).__name__}",
        code="database_unavailable",
        hint="Is PostgreSQL running, and are the name and password in the URL right?",
    )


def _bring_up_to_date(connection: psycopg.Connection, known: Sequence[Path]) -> None:
    newest = known[-1].stem
    recorded = _recorded(connection)
    if recorded is None:
        _step(connection, SchemaManager.get_schema(), newest)
    elif recorded != newest:
        names = [migration.stem for migration in known]
        if recorded not in names:
            raise ServiceError(
                f"The queue in this database has the schema {recorded!r}; this version of the "
                f"service knows up to {newest!r}.",
                code="queue_schema_unknown",
                hint="A newer version of the service has used this database: run that one.",
            )
        for migration in known[names.index(recorded) + 1 :]:
            _step(connection, migration.read_text(encoding="utf-8"), migration.stem)


def _step(connection: psycopg.Connection, text: str, name: str) -> None:
    """Run procrastinate's own text, and write down that it was run."""
    with connection.transaction():
        connection.execute(text.encode())
        connection.execute(f"COMMENT ON TABLE {_WHOSE} IS '{_RECORDED}{name}'".encode())


def _recorded(connection: psycopg.Connection) -> str | None:
    """The last migration that this database has had; None where there is no queue at all."""
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL, obj_description(to_regclass(%s), 'pg_class')",
        (_WHOSE, _WHOSE),
    ).fetchone()
    exists, comment = row or (False, None)
    if not exists:
        return None
    if not (comment or "").startswith(_RECORDED):
        raise ServiceError(
            f"This database has a table {_WHOSE} that the planning service did not make.",
            code="queue_schema_unknown",
            hint="Give the service a database of its own.",
        )
    return str(comment).removeprefix(_RECORDED)
