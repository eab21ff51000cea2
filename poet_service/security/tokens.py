"""From a request to its Caller: `Authorization: Bearer poet_...`, or nobody in particular.

Where the database has never held a token, everybody is the one anonymous caller of the tenant
"local" (and origin.py guards the door). From the first token on, revoked or not, nobody is: a
service does not become open again by revoking. A token that was found stays known for a moment,
so that a busy client costs no query a request; a revocation is obeyed after that moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from poet_core.errors import ServiceError
from poet_service.security.scopes import ALL_SCOPES, OPEN_PATHS, Scope, allows, scope_of

if TYPE_CHECKING:
    from starlette.types import Scope as RequestScope

    from poet_service.jobs.records import TokenRecord

LOCAL_TENANT = "local"
TOKEN_PATTERN = re.compile(r"poet_[A-Za-z0-9_-]{43}")
_REMEMBERED_TOKENS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: jobs belong to `token_id`, solves are shared within `tenant`."""

    token_id: int
    tenant: str
    scopes: frozenset[Scope]
    most_active_jobs: int | None = None


ANONYMOUS = Caller(token_id=0, tenant=LOCAL_TENANT, scopes=ALL_SCOPES)
STRANGER = Caller(token_id=-1, tenant="", scopes=frozenset())
"""Whoever asks at an open address of a service that has tokens."""


class TokenStore(Protocol):
    """The part of the Store that is asked here."""

    def has_tokens(self) -> bool:
        """Whether there is or ever was a token."""
        ...

    def find_token(self, secret_text: str) -> TokenRecord | None:
        """The token of that text, unless unknown or revoked."""
        ...


class TokenBook:
    """Identifies callers; used from the event loop only."""

    def __init__(
        self,
        store: TokenStore,
        *,
        memory_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._memory_seconds, self._clock = store, memory_seconds, clock
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._closed = False
        self._asked_at: float | None = None

    async def closed(self) -> bool:
        """Whether requests need a token."""
        now = self._clock()
        if not self._closed and (
            self._asked_at is None or now - self._asked_at >= self._memory_seconds
        ):
            self._closed = await asyncio.to_thread(self._store.has_tokens)
            self._asked_at = now
        return self._closed

    async def identify(self, scope: RequestScope) -> Caller:
        """Who asks. Raises ServiceError: `token_missing` and `token_unknown` (401), `scope_missing`
        (403), or what the database says."""
        if not await self.closed():
            return ANONYMOUS
        path = str(scope["path"])
        if path in OPEN_PATHS:
            return STRANGER
        caller = await self._caller(_bearer(scope))
        needed = scope_of(path)
        if not allows(caller.scopes, needed):
            raise ServiceError(
                f"This API token lacks the scope {needed!s}.",
                code="scope_missing",
                hint=f"Ask the operator for one that has it: poet tokens create --scope {needed!s}.",
                details={"scope": str(needed)},
            )
        return caller

    async def _caller(self, text: str) -> Caller:
        digest, now = hashlib.sha256(text.encode()).digest(), self._clock()
        found = self._known.get(digest)
        if found is not None and now < found[1]:
            return found[0]
        self._known.pop(digest, None)
        record = await asyncio.to_thread(self._store.find_token, text)
        if record is None:
            raise _unknown()
        caller = Caller(
            token_id=record.id,
            tenant=record.tenant,
            scopes=frozenset(Scope(name) for name in record.scopes),
            most_active_jobs=record.most_active_jobs,
        )
        self._known[digest] = (caller, now + self._memory_seconds)
        while len(self._known) > _REMEMBERED_TOKENS:
            self._known.popitem(last=False)
        return caller


def _bearer(scope: RequestScope) -> str:
    """The token's text in the Authorization header. Never from the address, which logs keep."""
    sent: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if not sent:
        raise ServiceError(
            "This service asks for an API token.",
            code="token_missing",
            hint="Send 'Authorization: Bearer poet_...'; `poet tokens create` makes one.",
        )
    kind, _, text = sent[0].decode("latin-1").partition(" ")
    text = text.strip()
    # What no token looks like costs no query.
    if len(sent) > 1 or kind.lower() != "bearer" or not TOKEN_PATTERN.fullmatch(text):
        raise _unknown()
    return text


def _unknown() -> ServiceError:
    return ServiceError(
        "This API token is unknown or was revoked.",
        code="token_unknown",
        hint="Send 'Authorization: Bearer poet_...' with a token of `poet tokens list`.",
    )
