"""What a token may be used for, and which address needs what.

An address that is not listed needs a token too, of whatever scope: a new route is closed until
somebody opens it.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from poet_core.errors import UsageError
from poet_core.text import printable


class Scope(StrEnum):
    """A right that a token has."""

    PLANS = "plans"  # ask for plans and frontiers, follow and stop its own jobs
    DEVICES = "devices"  # list, read and validate device profiles
    METRICS = "metrics"  # read /metrics
    ADMIN = "admin"  # everything above


ALL_SCOPES = frozenset(Scope)

# Probes and tools come without tokens; none of the three says anything about anybody's work.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json"})

_SCOPE_OF_PATH: tuple[tuple[str, Scope], ...] = (
    ("/v1/plans", Scope.PLANS),
    ("/v1/frontiers", Scope.PLANS),
    ("/v1/devices", Scope.DEVICES),
    ("/metrics", Scope.METRICS),
)


def scope_of(path: str) -> Scope | None:
    """The scope that an address needs; None where any token will do."""
    return next((scope for start, scope in _SCOPE_OF_PATH if path.startswith(start)), None)


def allows(scopes: frozenset[Scope], needed: Scope | None) -> bool:
    """Whether a token of these scopes may use an address that needs `needed`."""
    return needed is None or needed in scopes or Scope.ADMIN in scopes


def read_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes of their names. Raises UsageError (`scope_unknown`)."""
    named = frozenset(names)
    unknown = sorted(named - {str(scope) for scope in Scope})
    if unknown or not named:
        raise UsageError(
            f"Expected scopes out of {', '.join(Scope)}, got "
            f"{printable(unknown[0], 40) if unknown else 'none'}.",
            code="scope_unknown",
            hint="E.g. --scope plans --scope devices.",
        )
    return frozenset(Scope(name) for name in named)
