"""The schema: what migrations make is what tables.py says, and another version is refused."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import poet_service.database
from poet_core.errors import ServiceError
from poet_service.database.engine import open_store
from poet_service.database.schema import SCHEMA_VERSION, VERSION_TABLE
from poet_service.database.tables import METADATA


def _set_version(store, *versions):
    def work(connection):
        connection.execute(text(f"DELETE FROM {VERSION_TABLE}"))
        for version in versions:
            connection.execute(text(f"INSERT INTO {VERSION_TABLE} VALUES ('{version}')"))

    store._database.write(work)


def test_migrations_make_the_tables_that_the_program_means(store):
    def differences(connection):
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
        )
        return compare_metadata(context, METADATA)

    assert store._database.read(differences) == []


def test_checks_and_unique_rows_are_in_the_database(store):
    """What compare_metadata does not compare."""

    def read(connection):
        found = inspect(connection)
        return {
            table.name: (
                sorted(check["name"] for check in found.get_check_constraints(table.name)),
                sorted(one["name"] for one in found.get_unique_constraints(table.name)),
            )
            for table in METADATA.sorted_tables
        }

    found = store._database.read(read)
    assert found["solves"] == (
        ["ck_solves_attempt", "ck_solves_state"],
        ["uq_solves_id", "uq_solves_tenant_key"],
    )
    assert found["jobs"] == (
        ["ck_jobs_kind", "ck_jobs_plan_has_solve"],
        ["uq_jobs_id", "uq_jobs_token_id_idempotency_key"],
    )
    assert found["secrets"][0] == ["ck_secrets_one_row"]


def test_the_version_is_the_newest_migration():
    config = Config()
    config.set_main_option("path_separator", "os")
    folder = Path(poet_service.database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


def test_opening_again_changes_nothing(scene, database_url):
    job = scene.finished().job
    assert scene.store.schema_version() == SCHEMA_VERSION
    again = open_store(database_url)
    assert again.job(job.id, 1) == job
    again.ping()
    again.close()


@pytest.mark.parametrize("versions", [["9999"], ["0001", "0002"], ["x" * 30]])
def test_another_version_is_refused_and_left_alone(scene, database_url, versions):
    job = scene.finished().job
    _set_version(scene.store, *versions)
    try:
        with pytest.raises(ServiceError) as caught:
            open_store(database_url)
        assert caught.value.code == "schema_version_unknown"
        assert "newer" in caught.value.hint
    finally:
        _set_version(scene.store, SCHEMA_VERSION)
    assert scene.store.job(job.id, 1) == job


def test_tables_without_a_version_are_refused(store, database_url):
    _set_version(store)
    try:
        with pytest.raises(ServiceError) as caught:
            open_store(database_url)
        assert caught.value.code == "schema_version_unknown"
    finally:
        _set_version(store, SCHEMA_VERSION)


def test_somebody_elses_tables_do_not_matter(sqlite_file):
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('theirs')")
    connection.close()
    store = open_store(f"sqlite:///{sqlite_file}")
    assert store.schema_version() == SCHEMA_VERSION
    store.close()


def test_a_migration_that_breaks_off_leaves_nothing(sqlite_file, monkeypatch):
    with sqlite3.connect(sqlite_file) as connection:
        connection.execute("CREATE TABLE job_plans (theirs TEXT)")  # the last table of ours
    connection.close()
    with pytest.raises(ServiceError) as caught:
        open_store(f"sqlite:///{sqlite_file}")
    assert caught.value.code == "database_refused"
    with sqlite3.connect(sqlite_file) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert tables.fetchall() == [("job_plans",)]
    connection.close()
