"""The schema: made and migrated at start, by one process at a time."""

from __future__ import annotations

from sqlalchemy import Connection

from poet_service.database.tables import METADATA
from poet_service.database.transactions import Database


def migrate(database: Database) -> None:
    """Make the tables."""
    database.write(METADATA.create_all)


def schema_version(connection: Connection) -> str | None:
    """The version of the tables."""
    connection.exec_driver_sql("SELECT 1")
    return "1"
