"""How a job looks to the client that owns it.

    id, kind, state, attempt, created_at, started_at, finished_at     times are seconds since 1970
    cost, bound, gap, elapsed_seconds                                 of the best plan so far
    plan, summary, error                                              null until there is one
    links                                                             where the rest is

A job that left its solve shows the solve as it was then, whatever becomes of it for others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from poet_service.jobs.judged import Answer
from poet_service.jobs.records import JobKind, JobRecord, SolveRecord
from poet_service.jobs.states import ACTIVE, SolveState
from poet_service.problems import json_bytes


def state_of(job: JobRecord, solve: SolveRecord) -> SolveState:
    """The state of a plan job: its solve's, or stopped since it left."""
    return solve.state if job.left_at is None else SolveState.STOPPED


def has_ended(job: JobRecord, solve: SolveRecord) -> bool:
    """Whether nothing about the job will change any more."""
    return state_of(job, solve).ended


def frontier_state(job: JobRecord, solves: Iterable[SolveRecord]) -> SolveState:
    """The state of a frontier job: of all its points together."""
    states = {solve.state for solve in solves}
    if job.left_at is not None or (SolveState.STOPPED in states and not states & ACTIVE):
        return SolveState.STOPPED
    if states == {SolveState.QUEUED}:
        return SolveState.QUEUED
    if states & ACTIVE:
        return SolveState.RUNNING
    return SolveState.FAILED if states == {SolveState.FAILED} else SolveState.FINISHED


def plan_job_path(job_id: str) -> str:
    """The address of a plan job."""
    return f"/v1/plans/{job_id}"


def frontier_path(job_id: str) -> str:
    """The address of a frontier job."""
    return f"/v1/frontiers/{job_id}"


def plan_job_document(
    job: JobRecord, solve: SolveRecord, error: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything about a plan job but its plan."""
    state, path = state_of(job, solve), plan_job_path(job.id)
    stands = job.standing or solve
    return {
        "id": job.id,
        "kind": str(JobKind.PLAN),
        "state": str(state),
        "attempt": solve.attempt,
        "created_at": job.created_at,
        "started_at": solve.started_at,
        "finished_at": solve.finished_at if job.left_at is None else job.left_at,
        "cost": stands.cost,
        "bound": stands.bound,
        "gap": stands.gap,
        "elapsed_seconds": stands.elapsed_seconds,
        "error": error or (solve.error if state is SolveState.FAILED else None),
        "links": {
            "self": path,
            "events": f"{path}/events",
            "plan": f"{path}/plan",
            "log": f"{path}/log",
        },
    }


def plan_job_view(
    job: JobRecord,
    solve: SolveRecord,
    answer: Answer | None,
    error: Mapping[str, Any] | None = None,
) -> bytes:
    """The JSON text of a plan job; the plan goes in as the text that it already is."""
    head = json_bytes(plan_job_document(job, solve, error))[:-1]
    plan, summary = (b"null", b"null") if answer is None else (answer.plan, answer.summary)
    return b"".join((head, b',"plan":', plan, b',"summary":', summary, b"}"))
