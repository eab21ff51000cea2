"""The schema: made and migrated at start, by one process at a time, or refused with its version.

Migrations are Alembic's, in migrations/versions. A database that a newer release has migrated is
never touched: this program does not know what its columns mean.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select

from poet_core.errors import ServiceError
from poet_core.text import printable
from poet_service.database.transactions import Database

# The newest file in migrations/versions; a test compares.
SCHEMA_VERSION = "0001"
# A name of our own: the database may be shared with others that use Alembic.
VERSION_TABLE = "poet_schema_version"

# As Alembic makes it.
_VERSIONS = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32)))


def migrate(database: Database) -> None:
    """Bring the tables to SCHEMA_VERSION; nothing happens where they are. Raises ServiceError
    (`schema_version_unknown`)."""
    if database.read(schema_version) == SCHEMA_VERSION:
        return

    def work(connection: Connection) -> None:
        database.migration_lock(connection)
        found = schema_version(connection)
        if found is None and inspect(connection).has_table("solves"):
            raise _unknown("has tables of the service, but no schema version")
        _upgrade(connection, found)

    database.write(work)


def schema_version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none. Raises ServiceError
    (`schema_version_unknown`)."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    versions = list(connection.execute(select(_VERSIONS.c.version_num)).scalars())
    if len(versions) > 1:
        raise _unknown(f"has {len(versions)} schema versions at once")
    return str(versions[0]) if versions else None


def _upgrade(connection: Connection, found: str | None) -> None:
    # Alembic takes a third of a second to import, and most starts migrate nothing.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        raise _unknown(f"has schema version {printable(found, 32)}, and {SCHEMA_VERSION} is known")
    command.upgrade(config, "head")


def _unknown(what: str) -> ServiceError:
    return ServiceError(
        f"The database {what}.",
        code="schema_version_unknown",
        hint="Use the release that made it, or a newer one, or an empty database.",
    )
