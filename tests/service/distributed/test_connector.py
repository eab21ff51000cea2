"""PatientConnector without a database: what it asks again, what it does not, and when it gives up."""

import asyncio
from typing import Any

import psycopg
import psycopg_pool
import pytest
from procrastinate import PsycopgConnector, sql
from procrastinate.exceptions import ConnectorException

from poet_service.execution import distributed_connector
from poet_service.execution.distributed_connector import PatientConnector, is_outage


def caused_by(cause: Exception) -> ConnectorException:
    error = ConnectorException()
    error.__cause__ = cause
    return error


AWAY = caused_by(psycopg.OperationalError("the server closed the connection"))


class Database:
    """Answers each query with the next of its errors, then with rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
        self.errors, self.asked = list(errors), 0
        for name in ("execute_query_async", "execute_query_one_async", "execute_query_all_async"):
            monkeypatch.setattr(PsycopgConnector, name, self.answer)
        monkeypatch.setattr(distributed_connector, "FIRST_PAUSE_SECONDS", 0.001)

    async def answer(self, query: str, **arguments: Any) -> list[dict[str, int]]:
        self.asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return [{"id": 7}]


def connector(patience_seconds: float = 60.0) -> PatientConnector:
    return PatientConnector("postgresql://x", name="test", patience_seconds=patience_seconds)


@pytest.mark.parametrize(
    "error",
    [
        AWAY,
        caused_by(psycopg_pool.PoolTimeout("no connection")),
        caused_by(psycopg.errors.AdminShutdown("terminating")),
        caused_by(psycopg.InterfaceError("the connection is closed")),
    ],
)
def test_a_query_is_asked_again_until_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    database = Database(monkeypatch, error, error, error)
    rows = asyncio.run(connector().execute_query_all_async("SELECT 7"))
    assert rows == [{"id": 7}]
    assert database.asked == 4


@pytest.mark.parametrize(
    "cause",
    [
        psycopg.errors.ForeignKeyViolation("no such worker"),
        psycopg.errors.UndefinedTable("no such table"),
        psycopg_pool.PoolClosed("closed"),
    ],
)
def test_what_the_database_refuses_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    database = Database(monkeypatch, caused_by(cause))
    with pytest.raises(ConnectorException):
        asyncio.run(connector().execute_query_all_async("SELECT 7"))
    assert database.asked == 1


def test_a_heartbeat_is_repeated_whatever_the_database_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """During a failover a server may be read-only; without heartbeats the worker would be lost."""
    read_only = caused_by(psycopg.errors.ReadOnlySqlTransaction("read-only"))
    database = Database(monkeypatch, read_only, read_only)
    asyncio.run(connector().execute_query_async(sql.queries["update_heartbeat"], worker_id=1))
    assert database.asked == 3

    Database(monkeypatch, read_only)
    with pytest.raises(ConnectorException):
        asyncio.run(connector().execute_query_one_async(sql.queries["fetch_job"], worker_id=1))


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(monkeypatch, *[AWAY] * 10_000)
    with pytest.raises(ConnectorException):
        asyncio.run(connector(patience_seconds=0.05).execute_query_one_async("SELECT 7"))
    assert 1 < database.asked < 10_000


def test_nobody_waits_any_more_once_the_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(monkeypatch, *[AWAY] * 10_000)

    async def scene() -> None:
        patient = connector(patience_seconds=3600.0)
        asking = asyncio.create_task(patient.execute_query_async("SELECT 7"))
        while database.asked < 3:
            await asyncio.sleep(0.001)
        patient.hurry()
        with pytest.raises(ConnectorException):
            await asyncio.wait_for(asking, 30)

    asyncio.run(scene())


def test_a_job_that_was_given_back_already_may_be_finished_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = caused_by(psycopg.errors.RaiseException("Job was not found"))
    Database(monkeypatch, gone)
    asyncio.run(connector().execute_query_async(sql.queries["finish_job"], job_id=1))

    Database(monkeypatch, gone)
    with pytest.raises(ConnectorException):
        asyncio.run(connector().execute_query_async(sql.queries["retry_job"], job_id=1))


def test_the_listener_begins_again_when_its_connection_breaks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(distributed_connector, "LONGEST_PAUSE_SECONDS", 0.001)
    begun: list[list[str]] = []

    async def listen(self: PsycopgConnector, on_notification: Any, channels: Any) -> None:
        begun.append(list(channels))
        if len(begun) < 3:
            raise AWAY
        await asyncio.Event().wait()

    monkeypatch.setattr(PsycopgConnector, "listen_notify", listen)

    async def scene() -> None:
        async def ignore(*, channel: str, payload: str) -> None:
            pass

        channels = (name for name in ["one", "two"])  # a second pass over it would find nothing
        listening = asyncio.create_task(connector().listen_notify(ignore, channels))
        while len(begun) < 3:
            assert not listening.done()
            await asyncio.sleep(0.001)
        listening.cancel()

    asyncio.run(scene())
    assert begun == [["one", "two"]] * 3


def test_an_outage_is_told_from_a_refusal() -> None:
    assert is_outage(AWAY)
    assert is_outage(ConnectionRefusedError())
    assert not is_outage(caused_by(psycopg.errors.UniqueViolation("twice")))
    assert not is_outage(ValueError())
