"""Migrations of the schema, run by Alembic; see schema.py. A released one is never changed."""
