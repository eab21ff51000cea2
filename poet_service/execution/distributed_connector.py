"""PatientConnector: procrastinate's connection to PostgreSQL, made to sit out an outage of it.

procrastinate's worker ends when one of its queries fails, and takes its running jobs with it. A
restart of PostgreSQL should cost a running solve nothing, so every query waits and is asked again,
with backoff, until the database is back or somebody has become impatient (`hurry`). Asking twice is
safe for each query that procrastinate has:

    heartbeat, register, list, stalled   change nothing that a second time would change again
    defer                                the queueing lock makes the second one AlreadyEnqueued
    finish                               the second one finds no job "doing", as it wanted
    fetch                                a job whose fetch was answered by a lost connection is "doing"
                                         under a worker that does not know it: SolveWorker gives such
                                         jobs back

A heartbeat is asked for again whatever the database says (read-only for a moment, while another
server takes over): procrastinate does not notice when its task of heartbeats has died, and a worker
without heartbeats takes jobs and loses them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, LiteralString, TypeVar

import psycopg
import psycopg_pool
from procrastinate import PsycopgConnector, sql
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
# A pool that has no connection tries for this long before it says so; then the pauses above begin.
POOL_SECONDS = 2.0
MOST_CONNECTIONS = 4


class PatientConnector(PsycopgConnector):
    """A PsycopgConnector whose queries outlive an outage of at most `patience_seconds`."""

    def __init__(self, conninfo: str, *, name: str, patience_seconds: float) -> None:
        super().__init__(
            conninfo=conninfo,
            kwargs={
                "application_name": name,  # what pg_stat_activity shows
                "connect_timeout": 2,
                # A server that vanished without a word is noticed in about 15 s instead of hours.
                "keepalives_idle": 5,
                "keepalives_interval": 5,
                "keepalives_count": 2,
                "tcp_user_timeout": 15_000,
            },
            min_size=1,
            max_size=MOST_CONNECTIONS,
            timeout=POOL_SECONDS,
            reconnect_timeout=POOL_SECONDS,
        )
        self._patience_seconds = patience_seconds
        self._in_a_hurry = asyncio.Event()

    def hurry(self) -> None:
        """From now on a query that fails is not asked again: the process is ending."""
        self._in_a_hurry.set()

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """As PsycopgConnector's, patiently."""
        try:
            await self._patiently(super().execute_query_async, query, arguments)
        except ConnectorException as error:
            if query == sql.queries["finish_job"] and _says_no_such_job(error):
                logger.info("The job had been given back already: %s", arguments.get("job_id"))
                return
            raise

    async def execute_query_one_async(
        self, query: LiteralString, **arguments: Any
    ) -> dict[str, Any]:
        """As PsycopgConnector's, patiently."""
        return await self._patiently(super().execute_query_one_async, query, arguments)

    async def execute_query_all_async(
        self, query: LiteralString, **arguments: Any
    ) -> list[dict[str, Any]]:
        """As PsycopgConnector's, patiently."""
        return await self._patiently(super().execute_query_all_async, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen for ever; what is said while nobody listens is found by polling."""
        channels = list(channels)
        while True:
            try:
                await super().listen_notify(on_notification, channels)
            except (ConnectorException, psycopg.OperationalError, OSError):
                await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def _patiently(
        self,
        ask: Callable[..., Awaitable[Answer]],
        query: LiteralString,
        arguments: dict[str, Any],
    ) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._patience_seconds
        pause_seconds = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await ask(query, **arguments)
            except ConnectorException as error:
                if not (is_outage(error) or query == sql.queries["update_heartbeat"]):
                    raise
                left_seconds = deadline - asyncio.get_running_loop().time()
                if self._in_a_hurry.is_set() or left_seconds <= 0:
                    raise
            await self._pause(min(pause_seconds, left_seconds))
            pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._in_a_hurry.wait(), seconds)
        except TimeoutError:
            return


def is_outage(error: BaseException) -> bool:
    """Whether the database could not be reached, rather than refused what was asked."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError, OSError)):
            # PoolClosed is an OperationalError too, and no outage.
            return not isinstance(cause, psycopg_pool.PoolClosed)
        cause = cause.__cause__ or cause.__context__
    return False


def _says_no_such_job(error: ConnectorException) -> bool:
    return isinstance(error.__cause__, psycopg.errors.RaiseException)
