"""The tables. Invariants that SQL can hold, it holds: states, uniqueness, who belongs to whom.

    secrets            the HMAC secret of this database, one row
    tokens             API tokens, by hash
    solves             one planning run each; state, attempt and sequence number
     ├ solve_inputs    request and warm start, written once
     ├ solve_plans     the best plan so far, or the last one
     ├ solve_events    what happened, bounded
     └ solve_logs      the planner's log, bounded, in pieces by byte offset
    jobs               what a token asked for; a plan job points at its solve
     ├ job_points      a frontier job points at one solve for each RAM size
     └ job_plans       the plan that a job had when it left

`solves.key` is set while others may join: until the solve fails or is stopped. `number` columns are
the order of things; times are not. Large values have tables of their own, because SQLite writes a
changed row as a whole.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from poet_service.jobs.states import SolveState

# SQLite numbers rows by itself only where the type is INTEGER to the letter.
BIG = BigInteger().with_variant(Integer(), "sqlite")
_STATES = ", ".join(f"'{state.value}'" for state in SolveState)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

SECRETS = Table(
    "secrets",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", BIG, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("most_active_jobs", Integer),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)

SOLVES = Table(
    "solves",
    METADATA,
    Column("number", BIG, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("key", LargeBinary),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("worker", Text),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("heartbeat_at", Double),
    Column("wall_seconds", Double, nullable=False),
    Column("cost", Double),
    Column("bound", Double),
    Column("gap", Double),
    Column("elapsed_seconds", Double),
    Column("error", Text),
    Column("stop_requested", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("log_bytes", Integer, nullable=False),
    Column("input_bytes", BIG, nullable=False),
    Column("plan_bytes", BIG, nullable=False),
    UniqueConstraint("tenant", "key"),
    CheckConstraint(f"state IN ({_STATES})", name="state"),
    CheckConstraint("attempt >= 0", name="attempt"),
    Index(None, "state", "number"),
)


def _of_solve() -> Column[str]:
    return Column(
        "solve_id",
        String(32),
        ForeignKey("solves.id", ondelete="CASCADE"),
        primary_key=True,
    )


SOLVE_INPUTS = Table(
    "solve_inputs",
    METADATA,
    _of_solve(),
    Column("request", LargeBinary, nullable=False),
    Column("warm_start", LargeBinary),
)

SOLVE_PLANS = Table(
    "solve_plans",
    METADATA,
    _of_solve(),
    Column("plan", LargeBinary, nullable=False),
)

SOLVE_EVENTS = Table(
    "solve_events",
    METADATA,
    _of_solve(),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Text, nullable=False),
    sqlite_with_rowid=False,
)

SOLVE_LOGS = Table(
    "solve_logs",
    METADATA,
    _of_solve(),
    Column("start", Integer, primary_key=True, autoincrement=False),
    Column("piece", LargeBinary, nullable=False),
)

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", BIG, primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("token_id", BIG, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("created_at", Double, nullable=False, index=True),
    Column("solve_id", String(32), ForeignKey("solves.id"), index=True),
    Column("left_at", Double),
    Column("left_cost", Double),
    Column("left_bound", Double),
    Column("left_gap", Double),
    Column("left_elapsed_seconds", Double),
    Column("idempotency_key", Text),
    Column("idempotency_digest", LargeBinary),
    UniqueConstraint("token_id", "idempotency_key"),
    CheckConstraint("kind IN ('plan', 'frontier')", name="kind"),
    CheckConstraint("(kind = 'plan') = (solve_id IS NOT NULL)", name="plan_has_solve"),
    Index(None, "token_id", "number"),
)


def _of_job() -> Column[str]:
    return Column(
        "job_id",
        String(32),
        ForeignKey("jobs.id", ondelete="CASCADE"),
        primary_key=True,
    )


JOB_POINTS = Table(
    "job_points",
    METADATA,
    _of_job(),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("ram_bytes", BIG, nullable=False),
    Column("solve_id", String(32), ForeignKey("solves.id"), nullable=False, index=True),
)

JOB_PLANS = Table(
    "job_plans",
    METADATA,
    _of_job(),
    Column("plan", LargeBinary, nullable=False),
)
