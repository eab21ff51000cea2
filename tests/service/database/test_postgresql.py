"""What only a server can suffer: restarts, broken connections, locks, a standby."""

import time

import psycopg
import pytest
from sqlalchemy import text

from poet_core.errors import ServiceError
from poet_service.database.engine import open_store
from tests.service.database.scenes import Scene

pytestmark = pytest.mark.slow


@pytest.fixture
def url(postgres_server):
    return postgres_server.make_database()


@pytest.fixture
def opened(url):
    store = open_store(url, busy_seconds=2.0)
    yield Scene(store)
    store.close()


def _code(call):
    with pytest.raises(ServiceError) as caught:
        call()
    return caught.value.code


@pytest.mark.parametrize("immediate", [False, True], ids=["fast", "immediate"])
def test_a_restart_between_two_calls_is_not_noticed(opened, postgres_server, immediate):
    job = opened.finished().job
    postgres_server.restart(immediate=immediate)
    assert opened.store.job(job.id, 1) == job
    postgres_server.restart(immediate=immediate)
    assert opened.submit(b"new").created_solve
    assert opened.store.plan(job.solve_id) == b"plan"


def test_while_the_server_is_down_there_is_one_clear_error(opened, postgres_server):
    job = opened.finished().job
    postgres_server.stop(immediate=True)
    began = time.monotonic()
    try:
        assert _code(opened.store.ping) == "database_unavailable"
        assert _code(lambda: opened.submit(b"new")) == "database_unavailable"
        assert time.monotonic() - began < 30.0
    finally:
        postgres_server.start()
    opened.store.ping()
    assert opened.store.job(job.id, 1) == job


def test_a_connection_lost_before_the_commit_is_taken_up_again(opened, url):
    solve = opened.running()
    tries = []

    def work(connection):
        tries.append(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        connection.execute(text("UPDATE solves SET attempt = attempt + 1"))
        if len(tries) == 1:
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (tries[0],))
        connection.execute(text("UPDATE solves SET attempt = attempt + 1"))

    opened.store._database.write(work)
    assert len(set(tries)) == 2
    assert opened.store.solve(solve.id).attempt == 3


def test_a_connection_that_breaks_each_time_is_an_error(opened, url):
    solve = opened.running()

    def work(connection):
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.execute(text("UPDATE solves SET attempt = attempt + 1"))
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        connection.exec_driver_sql("SELECT 1")

    assert _code(lambda: opened.store._database.write(work)) == "database_unavailable"
    assert opened.store.solve(solve.id).attempt == 1


def test_a_row_that_somebody_holds(opened, url):
    solve = opened.running()
    with psycopg.connect(url) as other:
        other.execute("SELECT * FROM solves FOR UPDATE")
        assert _code(lambda: opened.store.heartbeat(solve.id, 1)) == "database_unavailable"
        assert opened.store.solve(solve.id) == solve
    assert opened.store.heartbeat(solve.id, 1)


def test_a_standby_can_be_read(opened, url):
    job = opened.finished().job
    with psycopg.connect(url, autocommit=True) as other:
        name = url.rsplit("/", 1)[1]
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
    again = Scene(open_store(url))
    assert again.store.job(job.id, 1) == job
    assert _code(lambda: again.submit(b"new")) == "storage_read_only"
    again.store.close()


def test_a_database_that_is_not_there(url):
    assert _code(lambda: open_store(url + "_missing")) == "database_unavailable"
    assert _code(lambda: open_store(url.replace("poet@", "nobody@"))) == "database_unavailable"
