"""Does a solver that is installed also solve? A model of three decisions says so, within a limit.

Invariant: it goes the way of every solve, in the solver's own process; nothing is left of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.errors import PoetError
from poet_core.text import printable
from poet_solvers.backends.result import SolveLimits, SolveStatus
from poet_solvers.backends.solve import BackendName, require_backend, solve_model

_BEST = 7.0  # of the model below: the first and the third, 3 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`name` is the solver with its version, or without one where it is not here (`installed`).
    `wrong` says what went wrong, "" where the answer is right."""

    name: str
    installed: bool
    wrong: str
    seconds: float = 0.0


def try_backend(backend: BackendName, *, wall_seconds: float = 10.0) -> Trial:
    """Solves a knapsack of three things whose answer is known."""
    try:
        name = require_backend(backend)
    except PoetError as error:
        return Trial(name=backend, installed=False, wrong=error.message)
    import pulp

    model = pulp.LpProblem("trial", pulp.LpMaximize)
    first, second, third = (
        model.add_variable(f"take_{number}", cat=pulp.LpBinary) for number in range(3)
    )
    model += 3 * first + 3 * second + 4 * third
    model += 2 * first + 3 * second + 2 * third <= 4, "room"
    try:
        found = solve_model(
            model, backend=backend, limits=SolveLimits(wall_seconds=wall_seconds, threads=1)
        )
    except (PoetError, OSError) as error:
        return Trial(name=name, installed=True, wrong=printable(str(error), 300))
    wrong = ""
    if found.status is not SolveStatus.OPTIMAL:
        wrong = printable(f"{found.status.sentence} {found.message}", 300)
    elif found.objective != _BEST:
        wrong = f"It says {found.objective} where {_BEST} is right."
    return Trial(name=name, installed=True, wrong=wrong, seconds=found.seconds)
