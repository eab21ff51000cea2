"""Where a service may listen: beyond this machine only for those who have a token.

A container, which nobody types commands into, gets its first token as a setting (initial_token). It
is stored, hashed, at the first start, and is a token like others afterwards: it can be revoked, and
does not come back by a restart.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from poet_core.errors import UsageError
from poet_core.text import printable
from poet_service.security.scopes import Scope
from poet_service.security.tokens import LOCAL_TENANT, TOKEN_PATTERN
from poet_service.settings import ENVIRONMENT_PREFIX, SECRETS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poet_service.jobs.records import TokenRecord

_INITIAL_NAME = "initial"
_INITIAL_SCOPES = (Scope.PLANS, Scope.DEVICES, Scope.METRICS)
_MAKE_ONE = "echo poet_$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=') makes one."


class TokenKeeper(Protocol):
    """The part of the Store that is used here."""

    def has_tokens(self) -> bool:
        """Whether there is or ever was a token."""
        ...

    def add_token(
        self,
        name: str,
        tenant: str,
        scopes: Iterable[str],
        most_active_jobs: int | None,
        *,
        secret_text: str | None = None,
    ) -> tuple[TokenRecord, str]:
        """Store a token. Raises UsageError (`token_exists`)."""
        ...


def check_remote(host: str, settings: Settings, store: TokenKeeper) -> None:
    """Raise UsageError (`remote_not_allowed`) for an address that others reach and nobody guards."""
    if settings.insecure_allow_remote or store.has_tokens():
        return
    raise UsageError(
        f"The address {printable(host, 60)} can be reached from other machines, and this service "
        "has no API token yet.",
        code="remote_not_allowed",
        hint="`poet tokens create NAME` makes one (with the same --database or --state-dir); "
        f"{ENVIRONMENT_PREFIX}INITIAL_TOKEN brings one.",
    )


def add_initial_token(settings: Settings, store: TokenKeeper) -> bool:
    """Store the token that the operator brought, unless it was stored before: whether it was new.
    Raises UsageError (`initial_token_invalid`)."""
    if settings.initial_token is None:
        return False
    text = settings.initial_token.get_secret_value()
    if not TOKEN_PATTERN.fullmatch(text):
        raise UsageError(
            "The initial token must be poet_ and 43 characters of A-Z, a-z, 0-9, - and _.",
            code="initial_token_invalid",
            hint=_MAKE_ONE,
        )
    try:
        store.add_token(_INITIAL_NAME, LOCAL_TENANT, _INITIAL_SCOPES, None, secret_text=text)
    except UsageError as error:
        if error.code != "token_exists":
            raise
        return False
    return True


def forget_secrets() -> None:
    """Take the secrets out of the environment, which every child process would inherit."""
    for key in SECRETS:
        os.environ.pop(f"{ENVIRONMENT_PREFIX}{key.upper()}", None)
