"""Tokens and the secret: who may ask, and what keys of solves are made with.

A token's text has 256 random bits and is shown once. The database has its SHA-256: with so many
bits a slow hash would protect nothing more, and every request pays for it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from poet_core.errors import UsageError
from poet_service.database.part import Part
from poet_service.database.rows import TOKEN_COLUMNS, token_record
from poet_service.database.tables import SECRETS, TOKENS
from poet_service.jobs.records import TokenRecord

TOKEN_PREFIX = "poet_"  # noqa: S105 - what every token begins with, so that scanners find leaks


class Tokens(Part):
    """The part of the Store that knows secrets."""

    _secret: bytes | None = None

    def secret(self) -> bytes:
        """32 random bytes, made once for this database, whoever asks first."""
        if self._secret is None:
            self._secret = self._database.write(_secret_of)
        return self._secret

    def add_token(
        self,
        name: str,
        tenant: str,
        scopes: Iterable[str],
        most_active_jobs: int | None,
        *,
        secret_text: str | None = None,
    ) -> tuple[TokenRecord, str]:
        """A new token and its text, which cannot be read again. `secret_text` is an operator's own
        one. Raises UsageError (`token_exists`)."""
        text = secret_text or TOKEN_PREFIX + secrets.token_urlsafe(32)
        values = {
            "name": name,
            "tenant": tenant,
            "scopes": " ".join(sorted(set(scopes))),
            "most_active_jobs": most_active_jobs,
            "digest": _digest(text),
            "created_at": self._clock(),
        }

        def work(connection: Connection) -> Row[*tuple[Any, ...]] | None:
            found = connection.execute(
                select(TOKENS.c.id).where(TOKENS.c.digest == values["digest"])
            ).first()
            if found is not None:
                return None
            return connection.execute(
                insert(TOKENS).values(**values).returning(*TOKEN_COLUMNS)
            ).one()

        row = self._database.write(work)
        if row is None:
            raise UsageError(
                "A token with this text is stored already.",
                code="token_exists",
                hint="Leave the text out and a new one is made.",
            )
        return token_record(row), text

    def find_token(self, secret_text: str) -> TokenRecord | None:
        """The token with this text; None where there is none or it was revoked. What is compared
        are hashes, so the time says nothing about the text."""
        digest = _digest(secret_text)
        row = self._database.read(
            lambda connection: connection.execute(_FIND, {"digest_": digest}).first()
        )
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        record = token_record(row)
        return record if record.revoked_at is None else None

    def list_tokens(self) -> list[TokenRecord]:
        """All of them, the revoked ones too, oldest first."""
        rows = self._database.read(
            lambda connection: connection.execute(
                select(*TOKEN_COLUMNS).order_by(TOKENS.c.id)
            ).all()
        )
        return [token_record(row) for row in rows]

    def revoke_token(self, token_id: int) -> bool:
        """Whether it was valid until now. Its jobs stay until they are erased."""
        statement = (
            update(TOKENS)
            .where(TOKENS.c.id == token_id, TOKENS.c.revoked_at.is_(None))
            .values(revoked_at=self._clock())
        )
        return self._database.write(lambda connection: connection.execute(statement).rowcount == 1)

    def has_tokens(self) -> bool:
        """A token was ever made: a service whose last token was revoked does not become open."""
        return self._database.read(lambda connection: connection.execute(_ANY).first() is not None)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _secret_of(connection: Connection) -> bytes:
    found = connection.execute(select(SECRETS.c.secret)).first()
    if found is not None:
        return bytes(found[0])
    # Two processes may get here at once on PostgreSQL: the second insert fails, its transaction
    # runs again and reads the first one's.
    secret = secrets.token_bytes(32)
    connection.execute(insert(SECRETS).values(id=1, secret=secret))
    return secret


_FIND = select(*TOKEN_COLUMNS, TOKENS.c.digest).where(TOKENS.c.digest == bindparam("digest_"))
_ANY = select(TOKENS.c.id).limit(1)
