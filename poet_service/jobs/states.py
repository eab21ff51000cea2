"""The states of a solve, and every way from one to another.

    QUEUED  ── claim ──────────────────────> RUNNING
    QUEUED  ── the last job left ──────────> STOPPED
    RUNNING ── lost once, or released ─────> QUEUED
    RUNNING ── finish ─────────────────────> FINISHED
    RUNNING ── fail, or lost again ────────> FAILED
    RUNNING ── stopped ────────────────────> STOPPED
    FINISHED ─ corrupt ────────────────────> FAILED

Whoever wants a transition names the state and the attempt it starts from; where the solve is no
longer there, nothing happens and the caller is told so. `attempt` is a new number with each claim,
and fences: a worker that lost its solve, or gave it back, writes nothing any more.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

# A solve whose worker was lost begins again once; a second loss looks like the solve's own fault.
# A worker that leaves in order (a service that is told to end) is no loss, so `attempt` may be more.
MOST_ATTEMPTS = 2


class SolveState(StrEnum):
    """Where a solve stands; `sentence` says it to a person."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def sentence(self) -> str:
        """What the state means."""
        return _SENTENCES[self]

    @property
    def ended(self) -> bool:
        """No worker will touch the solve again."""
        return self in ENDED


_SENTENCES = MappingProxyType(
    {
        SolveState.QUEUED: "The solve waits for a worker.",
        SolveState.RUNNING: "A worker has claimed the solve and reports from time to time.",
        SolveState.FINISHED: "The solve ended with a plan that the judge accepted.",
        SolveState.FAILED: "The solve ended with an error; the error document says which.",
        SolveState.STOPPED: "Nobody wanted the solve any more; its best plan so far was kept.",
    }
)

ACTIVE = frozenset({SolveState.QUEUED, SolveState.RUNNING})
ENDED = frozenset(SolveState) - ACTIVE

TRANSITIONS: frozenset[tuple[SolveState, SolveState]] = frozenset(
    {
        (SolveState.QUEUED, SolveState.RUNNING),
        (SolveState.QUEUED, SolveState.STOPPED),
        (SolveState.RUNNING, SolveState.QUEUED),
        (SolveState.RUNNING, SolveState.FINISHED),
        (SolveState.RUNNING, SolveState.FAILED),
        (SolveState.RUNNING, SolveState.STOPPED),
        (SolveState.FINISHED, SolveState.FAILED),
    }
)
