"""MILP backends: one adapter a solver behind one function.

    solve_model(model, backend="cbc", limits=SolveLimits(wall_seconds=10)) -> BackendResult

    pulp.LpProblem -> model_file (checked, taken apart) -> scaling (numbers near one) -> exact MPS text
                   -> cbc | highs | gurobi (the command line, and how to read what it leaves)
                   -> process (own session, wall limit, memory cap, private folder, always removed)
                   -> BackendResult (own status, objective recomputed, answer checked row by row)

PuLP builds models here; its own solver classes, status and parsing are not used (a time-out is
"Optimal" to them).
"""

from poet_solvers.backends.result import BackendResult, SolveLimits, SolveStatus
from poet_solvers.backends.solve import (
    BackendName,
    available_backends,
    require_backend,
    solve_model,
)

__all__ = [
    "BackendName",
    "BackendResult",
    "SolveLimits",
    "SolveStatus",
    "available_backends",
    "require_backend",
    "solve_model",
]
