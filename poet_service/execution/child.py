"""What a child does: one request in, JSON lines out (protocol.py), and its end.

    python -m poet_service.execution.child

A child is forked from the warm process as a rule (warm.py) and gets its limits there; as a program
of its own it is for looking at it. It ends at once when its standard input does: nobody listens.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
import traceback
from dataclasses import dataclass
from typing import IO, Any

from poet_core.documents import Limits, parse_json
from poet_core.errors import PoetError, ServiceError
from poet_core.plan import Plan, Schedule
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import PlanRequest, request_from_document
from poet_service.execution.failures import error_document, internal_document
from poet_service.execution.reporter import Reporter

# Exit statuses, for who reads a log: the last line says more.
DONE_EXIT, ERROR_EXIT, ABANDONED_EXIT = 0, 3, 4
# What came from the Store was within the service's limits when it was posted; depth: the request is
# one level down in the line.
_LIMITS = Limits(document_bytes=512 * 2**20, depth=64)
_ANY_WALL_SECONDS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    request: PlanRequest
    start: Schedule | None
    memory_bytes: int
    threads: int


def warm_up() -> None:
    """Import what a solve imports, functions and all, for whoever is forked from this process."""
    import poet_solvers.planner  # noqa: F401
    from poet_core.devices import device_names, load_device

    load_device(device_names()[0])
    with contextlib.suppress(ImportError):  # without the native part plans come without it
        importlib.import_module("poet_solvers._search")


def converse() -> int:
    """One conversation over descriptors 0 and 1; the exit status."""
    # Solvers' libraries print to 1 when they feel like it: the conversation has one of its own.
    words = os.dup(1)
    os.dup2(2, 1)
    reporter = Reporter(words)
    try:
        reporter.done(_plan(reporter))
    except MemoryError:
        reporter.error(error_document(out_of_memory("said so itself")))
    except PoetError as error:
        document = error_document(error)
        if document["kind"] == "internal":
            traceback.print_exc()
        reporter.error(document)
    except Exception:  # noqa: BLE001  A fault of ours: the operator reads it, the client does not.
        traceback.print_exc()
        reporter.error(internal_document())
    else:
        return DONE_EXIT
    return ERROR_EXIT


def out_of_memory(how: str) -> ServiceError:
    """The error of a child that had no memory left."""
    return ServiceError(
        "The solve needs more memory than one may take here.",
        code="solver_out_of_memory",
        hint="Ask for a smaller graph (grouped, or a smaller batch), or the operator for more memory.",
        details={"how": how},
    )


def _plan(reporter: Reporter) -> Plan:
    from poet_solvers.backends import SolveLimits
    from poet_solvers.planner import plan

    cancel = threading.Event()
    source = os.fdopen(0, "rb", closefd=False)
    asked = _read(source.readline())
    threading.Thread(target=_listen, args=(source, cancel), name="poet-stdin", daemon=True).start()
    request = asked.request
    return plan(
        request.problem(),
        planner=request.planner,
        backend=request.backend,
        limits=SolveLimits(
            wall_seconds=request.wall_seconds,
            patience_seconds=request.patience_seconds,
            memory_bytes=asked.memory_bytes,
            threads=asked.threads,
        ),
        start=asked.start,
        cancel=cancel,
        on_progress=reporter.progress,
        on_incumbent=reporter.incumbent,
    )


def _read(line: bytes) -> _Asked:
    asked: Any = parse_json(line, _LIMITS)
    start = asked["warm_start"]
    return _Asked(
        request=request_from_document(
            asked["request"], _LIMITS, most_wall_seconds=_ANY_WALL_SECONDS
        ),
        start=None if start is None else plan_from_document(start, _LIMITS).schedule,
        memory_bytes=int(asked["limits"]["memory_bytes"]),
        threads=int(asked["limits"]["threads"]),
    )


def _listen(source: IO[bytes], cancel: threading.Event) -> None:
    while line := source.readline():
        if line == b"stop\n":
            cancel.set()
    os._exit(ABANDONED_EXIT)


if __name__ == "__main__":
    os._exit(converse())  # a thread may wait for standard input for ever
