"""Settings: everything that a deployment of the service may choose, in one typed object.

    Settings(queue_depth=16)                        keyword arguments first,
    POET_SERVICE_QUEUE_DEPTH=16                     then the environment,
    queue_depth = 16                                then a TOML file (settings_sources.load_settings),
                                                    then the default below

Every limit is bounded and states its reason, which `poet serve --show-settings` and docs/service.md
repeat. Values are checked once, here; the object never changes afterwards. Secrets are never shown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from poet_core.documents import Limits
from poet_core.errors import UsageError
from poet_core.units import parse_bytes

ENVIRONMENT_PREFIX = "POET_SERVICE_"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})

MIB, GIB = 2**20, 2**30
_DAY_SECONDS = 86400.0

SECRETS = ("database", "initial_token")
"""Settings never shown; each may be given as a file (`..._file`), which settings_sources reads."""


def _size(value: object) -> object:
    """Bytes as an integer, or as a size with its unit."""
    if isinstance(value, str) and not value.strip().isdigit():
        try:
            return parse_bytes(value)
        except UsageError as error:
            raise ValueError(error.message) from None
    return value


def _names(value: object) -> object:
    """A list, or names between commas, as the environment has them."""
    return (
        [item.strip() for item in value.split(",") if item.strip()]
        if isinstance(value, str)
        else value
    )


def _not_a_truth(value: object) -> object:
    """A number: true is none, though Python counts it as 1."""
    if isinstance(value, bool):
        raise ValueError("Input should be a number")  # noqa: TRY004  pydantic wants this one
    return value


def _state_dir() -> Path:
    """Where this platform keeps what a user's programs remember."""
    import os

    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "poet"
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "poet"


_Bytes = Annotated[int, BeforeValidator(_size), BeforeValidator(_not_a_truth)]
_Count = Annotated[int, BeforeValidator(_not_a_truth)]
_Seconds = Annotated[float, BeforeValidator(_not_a_truth)]
_Names = Annotated[frozenset[str], NoDecode, BeforeValidator(_names)]


def _limit(default: float, least: float, most: float, reason: str) -> Any:
    return Field(default=default, ge=least, le=most, description=reason)


class Settings(BaseSettings):
    """See each field's description; `docs/service.md` has them as a table."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_ignore_empty=True,  # compose files pass on what nobody set as an empty string
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    # Where it keeps its state and where it listens.
    database: SecretStr | None = Field(
        default=None, description="postgresql://... or sqlite:///path; none is SQLite in state_dir."
    )
    database_file: Path | None = Field(
        default=None, description="A file that holds that URL, as secrets are mounted."
    )
    state_dir: Path = Field(
        default_factory=_state_dir,
        description="Folder of the SQLite database, the lock file and the solves' temporary files.",
    )
    host: str = Field(default="127.0.0.1", min_length=1, max_length=255,
                      description="Address to listen on.")  # fmt: skip
    port: _Count = _limit(8080, 0, 65535, "Port to listen on; 0 takes a free one.")

    # Who may ask.
    allowed_hosts: _Names = Field(
        default=frozenset(),
        description="Host names answered besides loopback's, against DNS rebinding. With API tokens, "
        "none named means every one: a token does not follow a name.",
    )
    allowed_origins: _Names = Field(
        default=frozenset(),
        description="Origins (https://name) of web pages that may call without a token, besides the "
        "service's own.",
    )
    insecure_allow_remote: bool = Field(
        default=False,
        description="Listen where others can reach it although there is no API token.",
    )
    initial_token: SecretStr | None = Field(
        default=None, description="An API token to accept from the first start on, for containers."
    )
    initial_token_file: Path | None = Field(
        default=None, description="A file that holds the initial token, as secrets are mounted."
    )
    token_memory_seconds: _Seconds = _limit(
        2, 0, 60, "A token looked up stays known so long; a revocation is obeyed after it.")  # fmt: skip

    # Connections: what a slow or greedy client may hold.
    connections: _Count = _limit(
        512, 1, 65536, "Open connections; each costs a socket and buffers."
    )
    header_seconds: _Seconds = _limit(
        10, 0.05, 300, "A request's headers arrive within it, or the connection is closed.")  # fmt: skip
    body_seconds: _Seconds = _limit(
        30, 0.05, 600, "A body arrives within it (slow clients hold memory)."
    )
    keep_alive_seconds: _Count = _limit(10, 1, 600, "An idle connection is closed after it.")
    shutdown_seconds: _Count = _limit(
        5, 1, 600, "Answers under way get so long when the service ends."
    )

    # Bodies: what a document may cost before anything is built from it.
    body_bytes: _Bytes = _limit(16 * MIB, 1024, 256 * MIB, "BERT-base's step is below 1 MiB.")
    buffered_bytes: _Bytes = _limit(
        64 * MIB, 1024, 64 * GIB, "Bodies in memory at once, of all clients; then 429."
    )
    depth: _Count = _limit(16, 8, 64, "Nesting of a JSON text; the parser recurses.")
    nodes: _Count = _limit(
        1_000_000, 1000, 10**8, "Values in a JSON text; BERT-base's step has 20,000."
    )
    ops: _Count = _limit(5_000, 1, 100_000, "Ops of a graph.")
    storages: _Count = _limit(20_000, 1, 400_000, "Storages of a graph.")
    references: _Count = _limit(
        100_000, 1, 2_000_000, "Storages named by ops: the edges of the graph."
    )
    ops_times_storages: _Count = _limit(
        10_000_000, 1, 10**10, "What the building of a model grows with."
    )
    string_length: _Count = _limit(1_000, 64, 100_000, "Characters of a name.")

    # Work inside the API process.
    work_threads: _Count = _limit(
        2, 1, 64, "Documents parsed and plans judged at once: each takes a core and memory."
    )
    database_threads: _Count = _limit(8, 1, 256, "Database calls at once.")
    remembered_requests: _Count = _limit(
        4096, 0, 10**7, "Bodies recognized without parsing them again, by digest."
    )
    remembered_bytes: _Bytes = _limit(
        64 * MIB, 0, 64 * GIB, "Judged answers kept in memory; the least recently used go first."
    )

    # Jobs: what waits and runs.
    solves: _Count = _limit(
        2, 1, 256, "Solves at once in this process; each takes a core and memory."
    )
    queue_depth: _Count = _limit(1000, 1, 10**6, "Solves waiting, of all tokens; then 429.")
    active_jobs_per_token: _Count = _limit(
        64, 1, 10**6, "Jobs of a token that have not ended; then 429. A token may have its own."
    )
    frontier_points: _Count = _limit(32, 1, 4096, "Points of a frontier; each is a solve.")
    default_wall_seconds: _Seconds = _limit(
        60, 0.1, 86400, "A solve's time where none is asked for."
    )
    most_wall_seconds: _Seconds = _limit(600, 0.1, 86400, "A solve's time at most.")
    solve_memory_bytes: _Bytes = _limit(
        4 * GIB, 64 * MIB, 1024 * GIB, "A solve's address space; above it that solve ends alone."
    )
    solve_grace_seconds: _Seconds = _limit(
        10, 0.1, 600, "A solve that overran its wall time is killed after it."
    )
    log_bytes: _Bytes = _limit(256 * 1024, 1024, 64 * MIB, "A solve's log kept at most.")
    log_chunk_bytes: _Bytes = _limit(64 * 1024, 1024, 16 * MIB, "A log's part in one answer.")
    requests_per_second: _Seconds = _limit(
        1000, 0.1, 10**6, "Requests of one token, sustained: one client cannot take the process."
    )
    request_burst: _Count = _limit(2000, 1, 10**6, "Requests of one token at once above that rate.")
    retry_after_seconds: _Count = _limit(
        2, 1, 3600, "What a 429 or 503 asks its client to wait at least."
    )

    # Waiting and streams.
    most_wait_seconds: _Seconds = _limit(30, 0, 300, "A long poll at most; proxies cut at 60.")
    poll_seconds: _Seconds = _limit(
        0.25, 0.01, 10, "How often the database is asked for news of jobs that are waited for."
    )
    streams: _Count = _limit(
        64, 1, 65536, "Event streams open, of all tokens; each holds a connection."
    )
    streams_per_token: _Count = _limit(8, 1, 65536, "Event streams open of one token.")
    stream_heartbeat_seconds: _Seconds = _limit(
        15, 0.05, 60, "A silent stream says after it that it lives."
    )
    stream_send_seconds: _Seconds = _limit(
        10, 0.05, 300, "A reader that takes nothing for so long is dropped."
    )

    # What is remembered.
    retain_seconds: _Seconds = _limit(
        7 * _DAY_SECONDS, 1, 3650 * _DAY_SECONDS, "Ended jobs and their plans are kept so long."
    )
    stored_bytes: _Bytes = _limit(
        2 * GIB, MIB, 1024 * GIB, "Requests, plans and logs kept; the oldest ended ones go first."
    )
    sweep_seconds: _Seconds = _limit(
        60, 0.1, _DAY_SECONDS, "How often what is too old or too much is dropped."
    )

    # Workers (PostgreSQL).
    worker_heartbeat_seconds: _Seconds = _limit(
        5, 0.05, 600, "A worker says so often that its solve lives."
    )
    worker_lost_seconds: _Seconds = _limit(
        30, 0.15, 3600, "Silent for so long, a worker is lost and its solve queued again."
    )
    worker_grace_seconds: _Seconds = _limit(20, 0.1, 3600, "A worker told to end gets so long.")
    reconcile_seconds: _Seconds = _limit(
        5, 0.05, 600, "How often solves that nobody works on are looked for."
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least important lines that the log shows."
    )

    @field_validator("allowed_hosts", "allowed_origins")
    @classmethod
    def _lower(cls, names: frozenset[str]) -> frozenset[str]:
        return frozenset(name.lower().rstrip("/") for name in names)

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        for secret in SECRETS:
            if getattr(self, secret) is not None and getattr(self, f"{secret}_file") is not None:
                raise ValueError(f"{secret} and {secret}_file should not both be given")
        for less, more, factor in (
            ("default_wall_seconds", "most_wall_seconds", 1),
            ("body_bytes", "buffered_bytes", 1),
            ("streams_per_token", "streams", 1),
            ("worker_heartbeat_seconds", "worker_lost_seconds", 3),
        ):
            if factor * getattr(self, less) > getattr(self, more):
                times = f"{factor} times " if factor > 1 else ""
                raise ValueError(
                    f"{more} should be at least {times}{less}, "
                    f"got {getattr(self, more):g} and {getattr(self, less):g}"
                )
        return self

    @property
    def limits(self) -> Limits:
        """What a document of a request may be at most."""
        return Limits(
            document_bytes=self.body_bytes,
            depth=self.depth,
            storages=self.storages,
            ops=self.ops,
            references=self.references,
            values=self.nodes,
            string_length=self.string_length,
        )

    @property
    def database_url(self) -> str:
        """The database, password included: for whoever opens it, never for a log."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.state_dir.absolute() / 'poet.sqlite3'}"

    @property
    def distributed(self) -> bool:
        """Whether solves run in workers of a PostgreSQL rather than in this process."""
        return self.database_url.startswith("postgresql")
