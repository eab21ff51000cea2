"""run_worker: what a worker process is made of, from its settings to its end.

    database (Store) ─┐
    nursery (children)┼─> SolveWorker, until SIGTERM or SIGINT
    queue             ┘

SIGTERM ends it within the grace, a second one at once. The file of `alive_file` is touched while
the database answers: a health check asks how old it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from poet_core.errors import UsageError
from poet_core.text import printable
from poet_service.database.engine import open_store
from poet_service.execution.distributed_queue import conninfo_of
from poet_service.execution.distributed_worker import SolveWorker
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.nursery import Nursery
from poet_service.execution.run_solve import run_solve
from poet_service.jobs.states import SolveState
from poet_service.settings import Settings
from poet_service.state_folder import make_state_folder


def run_worker(
    settings: Settings, *, announce: Callable[[str], None], alive_file: Path | None = None
) -> None:
    """Work until a signal says to end; `announce` is given the worker's name once it works.

    Raises UsageError and ServiceError where it cannot begin.
    """
    conninfo_of(settings.database_url)  # refuses what is no PostgreSQL before anything is made
    name = worker_name()
    alive = _alive(alive_file)
    store = open_store(settings.database_url, connections=settings.solves + 2)
    try:
        limits = ExecutionLimits.of(settings)
        with Nursery(make_state_folder(settings)) as nursery:
            never = threading.Event()  # a client's stop comes through the Store

            def run(solve_id: str, leaving: threading.Event) -> SolveState | None:
                return run_solve(
                    store, solve_id, name, never, limits, nursery=nursery, leaving=leaving
                )

            asyncio.run(_work(SolveWorker(store, settings, run, name=name, alive=alive), announce))
    finally:
        store.close()


async def _work(worker: SolveWorker, announce: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.end)
    try:
        await worker.work(announce)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def worker_name() -> str:
    """A name that no other worker has, for people: machine, process, and four random bytes."""
    return f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(4)}"


def _alive(file: Path | None) -> Callable[[], None]:
    """What to call while the worker lives. Raises UsageError where the file cannot be written."""
    if file is None:
        return lambda: None
    try:
        file.touch()
    except OSError as error:
        raise UsageError(
            f"The file {printable(str(file), 200)} cannot be written: {error.strerror}.",
            code="alive_file_unwritable",
            hint="--alive-file names a file in a folder that the worker may write to.",
        ) from error

    def touch() -> None:
        with contextlib.suppress(OSError):  # a full disk is the health check's to see
            file.touch()

    return touch
