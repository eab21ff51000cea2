"""What tests of execution share: requests, a Store with a solve in it, looks at processes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from poet_core.documents import canonical_json, parse_json
from poet_core.plan_document import read_plan
from poet_core.plan_request import PlanRequest, request_from_document, request_to_document
from poet_core.verify import verify
from poet_service.database.store import Store
from poet_service.execution.limits import ExecutionLimits
from poet_service.jobs.records import QueueLimits
from tests.solvers.mlp_step import mlp_adam_step

# Patient where a busy machine is slow, impatient where the product is.
LIMITS = ExecutionLimits(
    memory_bytes=2**30,
    wall_grace_seconds=5.0,
    heartbeat_seconds=0.1,
    look_seconds=0.1,
    write_seconds=0.02,
    judge_share=0.9,
    database_seconds=1.0,
    niceness=0,
)
EVERYTHING_FITS, NEEDS_SEARCH = 2**17, 5500
GRAPH = mlp_adam_step((16, 16, 16), 8)
_numbers = itertools.count()


def request_bytes(
    name: str, *, ram_bytes: int = EVERYTHING_FITS, wall_seconds: float = 60.0
) -> bytes:
    """A request; the odd child lives as its first word says."""
    request = PlanRequest(
        graph=replace(GRAPH, name=name),
        device="raspberry-pi-4b",
        ram_bytes=ram_bytes,
        wall_seconds=wall_seconds,
        patience_seconds=wall_seconds,
    )
    return canonical_json(request_to_document(request))


def submit(store: Store, request: bytes, *, warm_start: bytes | None = None) -> tuple[str, str]:
    """A job of its own and its solve; their ids."""
    number = next(_numbers)
    submitted = store.submit(
        job_id=f"{number:032x}",
        token_id=0,
        tenant="local",
        key=number.to_bytes(32, "big"),
        request=request,
        wall_seconds=60.0,
        idempotency=None,
        warm_start=warm_start,
        limits=QueueLimits(queue_depth=10_000, active_jobs_of_token=10_000),
    )
    return submitted.job.id, submitted.solve.id


def judged_cost(store: Store, solve_id: str) -> float:
    """What the stored plan costs, if the judge accepts it for the stored request."""
    stored = store.plan(solve_id)
    assert stored is not None
    plan = read_plan(stored)
    graph = request_from_document(parse_json(store.request(solve_id))).graph
    verify(graph, plan)
    return plan.objective_value


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until it holds, or fail."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def processes_below(folder: Path) -> list[int]:
    """Living processes that work in a folder or below it, removed or not: children of solves, and
    the solvers that they started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = str((process / "cwd").readlink())
            if where.startswith(str(folder)) and not _is_dead(process):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def lives(process_id: int) -> bool:
    """Whether there is such a process that is no zombie."""
    try:
        return not _is_dead(Path(f"/proc/{process_id}"))
    except OSError:
        return False


def _is_dead(process: Path) -> bool:
    return (process / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
