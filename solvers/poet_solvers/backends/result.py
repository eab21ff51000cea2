"""What every solver adapter takes (SolveLimits) and gives back (BackendResult).

Invariant: a status says what the solver *claims*, in this project's words and never in PuLP's;
numbers are in the model's own units (the adapter's scaling is undone), and an incumbent is
returned only with OPTIMAL or FEASIBLE.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class SolveStatus(enum.Enum):
    """How a solve ended. Each member's value is its sentence."""

    OPTIMAL = "The solver claims a proof that no solution is better within the gap asked for."
    FEASIBLE = "A limit was reached; the best solution so far is returned without a proof."
    INFEASIBLE = "The solver claims a proof that the model has no solution."
    UNBOUNDED = "The objective can be improved without end, or the solver could not exclude it."
    NOT_FOUND = "A limit was reached before any solution was found; that proves nothing."
    CANCELLED = "The caller cancelled the solve and the solver was killed."
    MEMORY = "The solver ran out of the memory that it was given."
    FAILED = "The solver crashed, refused the model or gave an answer that breaks the model."

    @property
    def sentence(self) -> str:
        return self.value

    @property
    def has_solution(self) -> bool:
        """True when `BackendResult.values` and `.objective` hold a solution."""
        return self in (SolveStatus.OPTIMAL, SolveStatus.FEASIBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveLimits:
    """What one solve may use.

    `relative_gap` 0 asks for a full proof (solvers stop at about 1e-9 relative). `memory_bytes`
    caps the solver's address space; a solve that needs more ends as MEMORY. `wall_seconds` covers
    everything from the call on; the solver is told to stop then, and killed two seconds later if it
    has not. `moves` is the local search's
    share of a `solve` (with it the answer is the same every time); `patience_seconds` ends a `solve`
    in which neither plan nor bound got better for so long. Solvers ignore both.
    """

    wall_seconds: float = 60.0
    relative_gap: float = 0.0
    threads: int = 2
    memory_bytes: int | None = None
    seed: int = 0
    moves: int | None = None
    patience_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendResult:
    """One solver's answer.

    `objective` is recomputed from `values` (integer variables rounded) in the model's own units;
    `bound` is what the solver claims that no solution can beat: at most `objective` in a
    minimisation, at least in a maximisation, None where it claims nothing. `values` holds every
    variable of the model by its name. `duals` holds the dual values of the rows by name where the
    model has no integers and the solver says them (HiGHS does); they are a claim like the rest.
    `peak_memory_bytes` is the most RAM that the solver's process held (10 MB at least).
    """

    status: SolveStatus
    objective: float | None
    bound: float | None
    values: Mapping[str, float]
    seconds: float
    backend: str
    message: str
    log_tail: str
    peak_memory_bytes: int | None = None
    duals: Mapping[str, float] = field(default_factory=dict)

    @property
    def relative_gap(self) -> float | None:
        """|objective - bound| / |objective|, or None where either is unknown."""
        if self.objective is None or self.bound is None:
            return None
        distance = abs(self.objective - self.bound)
        return distance / abs(self.objective) if self.objective else distance
