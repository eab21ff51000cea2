"""ServiceSettings: what a deployment of the service may use. Every limit has its reason."""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.documents import Limits

REQUEST_LIMITS = Limits(
    document_bytes=16 * 2**20,  # BERT-base's step, 727 ops, is below 1 MiB
    depth=16,
    storages=20_000,
    ops=5_000,
    references=100_000,
    string_length=1_000,
)

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSettings:
    """Limits of one process.

    `allowed_hosts`: the Host headers that are answered, without port; None answers every one. The
    default stops a web page from reaching a loopback service through a name of its own (DNS
    rebinding). `nodes`: values in one JSON text; BERT-base's step has about 20,000. `bodies` and
    `solves` bound what runs at once, `stored_*` what is remembered.
    """

    limits: Limits = REQUEST_LIMITS
    allowed_hosts: frozenset[str] | None = LOOPBACK_HOSTS
    nodes: int = 1_000_000
    ops_times_storages: int = 10_000_000
    body_seconds: float = 30.0
    bodies: int = 4
    solves: int = 2
    default_wall_seconds: float = 60.0
    most_wall_seconds: float = 600.0
    stored_plans: int = 256
    stored_bytes: int = 256 * 2**20
    retry_after_seconds: int = 5
