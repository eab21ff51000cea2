"""Alembic runs this file: the migrations, on the connection that schema.py hands over.

It is no module to import: Alembic gives it its context while it runs. The transaction is the
caller's, so a migration that fails leaves nothing behind.
"""

from alembic import context

from poet_service.database.schema import VERSION_TABLE
from poet_service.database.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
