"""The queue's tables: made once by however many start together, upgraded, refused where unknown."""

import threading
from pathlib import Path

import psycopg
import pytest

from poet_core.errors import ServiceError
from poet_service.execution.distributed_schema import ensure_queue_schema, migrations

pytestmark = pytest.mark.slow

COMMENT = "poet: procrastinate schema "


def recorded(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT obj_description('procrastinate_jobs'::regclass, 'pg_class')"
        ).fetchone()
    assert row is not None
    return str(row[0]).removeprefix(COMMENT)


def functions(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT proname FROM pg_proc WHERE proname LIKE 'procrastinate%'"
        )
        return {str(name) for (name,) in found}


def test_many_starting_at_once_make_it_once(postgres_url: str) -> None:
    errors: list[BaseException] = []
    together = threading.Barrier(6)

    def start() -> None:
        together.wait()
        try:
            ensure_queue_schema(postgres_url)
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert recorded(postgres_url) == migrations()[-1].stem
    ensure_queue_schema(postgres_url)


def test_the_schema_of_an_older_version_is_upgraded(postgres_url: str, tmp_path: Path) -> None:
    """Made as the version before its last two changes made it, from procrastinate's own migrations."""
    known = migrations()
    old = known[:-2]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for migration in old:
            connection.execute(migration.read_text(encoding="utf-8").encode())
        connection.execute(
            f"COMMENT ON TABLE procrastinate_jobs IS '{COMMENT}{old[-1].stem}'".encode()
        )
    before = functions(postgres_url)
    ensure_queue_schema(postgres_url)
    assert recorded(postgres_url) == known[-1].stem
    assert functions(postgres_url) - before >= {"procrastinate_retry_job_v2"}


@pytest.mark.parametrize("comment", [f"{COMMENT}99.00.00_01_later", "somebody else's table"])
def test_a_schema_that_is_not_known_is_refused_and_left_alone(
    postgres_url: str, comment: str
) -> None:
    ensure_queue_schema(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        connection.execute(f"COMMENT ON TABLE procrastinate_jobs IS $${comment}$$".encode())
    with pytest.raises(ServiceError) as refused:
        ensure_queue_schema(postgres_url)
    assert refused.value.code == "queue_schema_unknown"
    assert recorded(postgres_url) == comment.removeprefix(COMMENT)


def test_a_database_that_is_not_there_is_one_error_without_a_password() -> None:
    with pytest.raises(ServiceError) as refused:
        ensure_queue_schema("postgresql://poet:hunter2@127.0.0.1:1/poet")
    assert refused.value.code == "database_unavailable"
    assert "hunter2" not in str(refused.value)
