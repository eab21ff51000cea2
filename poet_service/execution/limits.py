"""ExecutionLimits: what one solve may take, and how often it writes. Each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poet_service.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionLimits:
    """Limits of a child and of the process that watches it.

    memory_bytes           address space of the child, and of each solver process under it
    wall_grace_seconds     what a solve may take above its own wall limit: reading a large request,
                           writing the plan, a machine that is busy
    stop_seconds           a child that was asked to stop gets so long to say what it has
    line_bytes             the longest line of a child: a plan of 5,000 ops has below 12 MB
    output_bytes           all lines of a child: four large plans a second for ten minutes
    log_bytes              what is kept of the planner's log
    file_bytes             the largest file of a child or a solver (a model with 10^6 rows: 200 MB)
    heartbeat_seconds      how often the Store hears that the solve lives
    look_seconds           how often the Store is asked whether the solve is still wanted: with
                           `stop_seconds` less than 2
    write_seconds          events of one kind are this far apart at least
    judge_share            of the time, incumbents are judged; the latest wins (a plan of 1,000 ops
                           takes the judge 0.1 s, which the API process has to share)
    database_seconds       an end that cannot be written is tried again for so long
    threads                of the planner: one that searches, one that proves
    niceness               of the child, so that a busy machine still answers requests
    """

    memory_bytes: int = 4 * 2**30
    wall_grace_seconds: float = 10.0
    stop_seconds: float = 1.4
    line_bytes: int = 16 * 2**20
    output_bytes: int = 2**30
    log_bytes: int = 256 * 2**10
    file_bytes: int = 4 * 2**30
    heartbeat_seconds: float = 2.0
    look_seconds: float = 0.5
    write_seconds: float = 0.25
    judge_share: float = 0.1
    database_seconds: float = 60.0
    threads: int = 2
    niceness: int = 10

    @classmethod
    def of(cls, settings: Settings) -> ExecutionLimits:
        """What a deployment's settings say about it."""
        return cls(
            memory_bytes=settings.solve_memory_bytes,
            wall_grace_seconds=settings.solve_grace_seconds,
            log_bytes=settings.log_bytes,
        )
