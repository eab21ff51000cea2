"""A token's jobs, newest first, a page at a time."""

from __future__ import annotations

from typing import Any

from poet_service.database.store import Store
from poet_service.jobs.records import JobKind, JobRecord, SolveRecord
from poet_service.jobs.views import frontier_path, frontier_state, plan_job_document


def list_jobs(store: Store, token_id: int, *, limit: int, before: str | None) -> dict[str, Any]:
    """The page before the job `before`, without plans. Blocks. Raises ServiceError
    (`cursor_unknown`)."""
    jobs = store.jobs(token_id, limit=limit, before=before)
    solves = store.solves(solve_id for job in jobs for solve_id in job.solve_ids)
    return {
        "jobs": [
            _document(job, [solves[item] for item in job.solve_ids])
            for job in jobs
            if all(item in solves for item in job.solve_ids)  # else it was erased meanwhile
        ],
        "next": jobs[-1].id if len(jobs) == limit else None,
    }


def _document(job: JobRecord, solves: list[SolveRecord]) -> dict[str, Any]:
    if job.kind is JobKind.PLAN:
        return plan_job_document(job, solves[0])
    path = frontier_path(job.id)
    return {
        "id": job.id,
        "kind": str(job.kind),
        "state": str(frontier_state(job, solves)),
        "created_at": job.created_at,
        "ram_bytes": [point.ram_bytes for point in job.points],
        "links": {"self": path, "events": f"{path}/events"},
    }
