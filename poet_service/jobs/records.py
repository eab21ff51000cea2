"""What the database gives back: values, frozen, without a connection behind them.

Times are seconds of the service's clock since 1970. They are told, never compared: orders come
from row and sequence numbers, because a clock may jump back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from poet_service.jobs.states import SolveState


class JobKind(StrEnum):
    """What was asked for: one plan, or one plan for each of several RAM sizes."""

    PLAN = "plan"
    FRONTIER = "frontier"


class EventKind(StrEnum):
    """What happened in a solve."""

    STATE = "state"  # queued, claimed or queued again
    INCUMBENT = "incumbent"  # a better plan, judged
    BOUND = "bound"  # no plan can be better than this
    PROGRESS = "progress"  # a sentence
    DONE = "done"  # the last state change: finished, failed or stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """An API token. Its text is nowhere: only a hash of it is stored."""

    id: int
    name: str
    tenant: str
    scopes: frozenset[str]
    most_active_jobs: int | None
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveRecord:
    """One planning run for one request inside one tenant. `attempt` counts
    claims, `losses` those whose worker was lost; `plan_bytes` is 0 without a plan."""

    id: str
    tenant: str
    state: SolveState
    attempt: int
    worker: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    heartbeat_at: float | None
    wall_seconds: float
    cost: float | None
    bound: float | None
    gap: float | None
    elapsed_seconds: float | None
    plan_bytes: int
    error: Mapping[str, Any] | None
    stop_requested: bool
    last_seq: int
    log_bytes: int
    losses: int = 0

    @property
    def has_plan(self) -> bool:
        """A plan is stored: the best so far, or the last one."""
        return self.plan_bytes > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRecord:
    """One RAM size of a frontier and the solve that answers it."""

    ram_bytes: int
    solve_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a solve was when a job left it."""

    cost: float | None
    bound: float | None
    gap: float | None
    elapsed_seconds: float | None
    has_plan: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """What one token asked for. `left_at` is set when it left before its solves had ended, with
    `standing` what a plan job had then; `discarded` is true only in the answer to a discard."""

    id: str
    kind: JobKind
    token_id: int
    tenant: str
    created_at: float
    solve_id: str | None
    left_at: float | None
    standing: Standing | None = None
    discarded: bool = False
    points: tuple[PointRecord, ...] = ()

    @property
    def solve_ids(self) -> tuple[str, ...]:
        """The solves behind the job, each once, in the order of its points."""
        if self.solve_id is not None:
            return (self.solve_id,)
        return tuple(dict.fromkeys(point.solve_id for point in self.points))


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One event of a solve; `seq` counts from 1 and never goes back."""

    seq: int
    at: float
    kind: EventKind
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What a submission must stay within: queued solves of all, active jobs of its token."""

    queue_depth: int
    active_jobs_of_token: int
    retry_after_seconds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A plan job and its solve. `replayed`: the Idempotency-Key had been used before."""

    job: JobRecord
    solve: SolveRecord
    created_solve: bool
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedFrontier:
    """A frontier job, its solves by id, and the ids of those that are new."""

    job: JobRecord
    solves: Mapping[str, SolveRecord]
    created_solves: tuple[str, ...]
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A job after it left, and the running solves that nobody wants any more."""

    job: JobRecord
    solves_to_stop: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What retention erased, and the bytes that are stored now."""

    jobs: int
    solves: int
    stored_bytes: int
