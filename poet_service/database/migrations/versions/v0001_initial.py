"""Version 0001: the first schema. What the tables mean is told in tables.py."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table."""
    _secrets_and_tokens()
    _solves()
    _documents_of_solves()
    _logbook_of_solves()
    _jobs()


def _secrets_and_tokens() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_secrets_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
    )
    op.create_table(
        "tokens",
        sa.Column("id", _BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("most_active_jobs", sa.Integer()),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _solves() -> None:
    op.create_table(
        "solves",
        sa.Column("number", _BIG, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double()),
        sa.Column("finished_at", sa.Double()),
        sa.Column("heartbeat_at", sa.Double()),
        sa.Column("wall_seconds", sa.Double(), nullable=False),
        sa.Column("cost", sa.Double()),
        sa.Column("bound", sa.Double()),
        sa.Column("gap", sa.Double()),
        sa.Column("elapsed_seconds", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.Column("stop_requested", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("log_bytes", sa.Integer(), nullable=False),
        sa.Column("input_bytes", _BIG, nullable=False),
        sa.Column("plan_bytes", _BIG, nullable=False),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'finished', 'failed', 'stopped')",
            name=op.f("ck_solves_state"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_solves_attempt")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_solves")),
        sa.UniqueConstraint("id", name=op.f("uq_solves_id")),
        sa.UniqueConstraint("tenant", "key", name=op.f("uq_solves_tenant_key")),
    )
    op.create_index(op.f("ix_solves_state_number"), "solves", ["state", "number"])


def _documents_of_solves() -> None:
    op.create_table(
        "solve_inputs",
        sa.Column("solve_id", sa.String(32), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("warm_start", sa.LargeBinary()),
        _belongs_to_solve("solve_inputs"),
        sa.PrimaryKeyConstraint("solve_id", name=op.f("pk_solve_inputs")),
    )
    op.create_table(
        "solve_plans",
        sa.Column("solve_id", sa.String(32), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        _belongs_to_solve("solve_plans"),
        sa.PrimaryKeyConstraint("solve_id", name=op.f("pk_solve_plans")),
    )


def _logbook_of_solves() -> None:
    op.create_table(
        "solve_events",
        sa.Column("solve_id", sa.String(32), nullable=False),
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        _belongs_to_solve("solve_events"),
        sa.PrimaryKeyConstraint("solve_id", "seq", name=op.f("pk_solve_events")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "solve_logs",
        sa.Column("solve_id", sa.String(32), nullable=False),
        sa.Column("start", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("piece", sa.LargeBinary(), nullable=False),
        _belongs_to_solve("solve_logs"),
        sa.PrimaryKeyConstraint("solve_id", "start", name=op.f("pk_solve_logs")),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("number", _BIG, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("token_id", _BIG, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("solve_id", sa.String(32)),
        sa.Column("left_at", sa.Double()),
        sa.Column("left_cost", sa.Double()),
        sa.Column("left_bound", sa.Double()),
        sa.Column("left_gap", sa.Double()),
        sa.Column("left_elapsed_seconds", sa.Double()),
        sa.Column("idempotency_key", sa.Text()),
        sa.Column("idempotency_digest", sa.LargeBinary()),
        sa.CheckConstraint("kind IN ('plan', 'frontier')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "(kind = 'plan') = (solve_id IS NOT NULL)", name=op.f("ck_jobs_plan_has_solve")
        ),
        sa.ForeignKeyConstraint(["solve_id"], ["solves.id"], name=op.f("fk_jobs_solve_id")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sa.UniqueConstraint(
            "token_id", "idempotency_key", name=op.f("uq_jobs_token_id_idempotency_key")
        ),
    )
    op.create_index(op.f("ix_jobs_created_at"), "jobs", ["created_at"])
    op.create_index(op.f("ix_jobs_solve_id"), "jobs", ["solve_id"])
    op.create_index(op.f("ix_jobs_token_id_number"), "jobs", ["token_id", "number"])
    op.create_table(
        "job_points",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("ram_bytes", _BIG, nullable=False),
        sa.Column("solve_id", sa.String(32), nullable=False),
        _belongs_to_job("job_points"),
        sa.ForeignKeyConstraint(["solve_id"], ["solves.id"], name=op.f("fk_job_points_solve_id")),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_points")),
    )
    op.create_index(op.f("ix_job_points_solve_id"), "job_points", ["solve_id"])
    op.create_table(
        "job_plans",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("plan", sa.LargeBinary(), nullable=False),
        _belongs_to_job("job_plans"),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_job_plans")),
    )


def _belongs_to_solve(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_solve_id")
    return sa.ForeignKeyConstraint(["solve_id"], ["solves.id"], name=name, ondelete="CASCADE")


def _belongs_to_job(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_job_id")
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=name, ondelete="CASCADE")
