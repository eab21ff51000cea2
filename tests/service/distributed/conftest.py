"""The distributed executor's tests share a PostgreSQL of their own."""

from tests.service.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
