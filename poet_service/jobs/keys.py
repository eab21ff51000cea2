"""The key under which a solve is shared: who asks the same, within one tenant, gets the same answer.

An HMAC under a secret of the database, so that a key says nothing about a request, and nobody can
work out from outside what another tenant has asked.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from poet_core.documents import canonical_json
from poet_core.plan_request import PlanRequest, request_to_document


@cache
def planner_version() -> str:
    """The version of the planner: another one may plan otherwise, so it shares no answers."""
    try:
        return version("poet-planner")
    except PackageNotFoundError:  # run from a source tree
        return "0"


def canonical_request(request: PlanRequest) -> bytes:
    """The one text of a request, however it was written."""
    return canonical_json(request_to_document(request))


def solve_key(secret: bytes, tenant: str, request: bytes, warm_start: bytes | None = None) -> bytes:
    """HMAC-SHA256 over tenant, planner version, canonical request and the plan to start from."""
    parts = (
        b"poet.solve/1",
        tenant.encode(),
        planner_version().encode(),
        hashlib.sha256(request).digest(),
        b"" if warm_start is None else hashlib.sha256(warm_start).digest(),
    )
    told = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return hmac.digest(secret, told, "sha256")
