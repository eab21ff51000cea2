"""Prover: bounds for the best schedule on the desk (founder's skeleton; the prover helper replaces it)."""

from __future__ import annotations

import threading

from poet_core.plan import Problem
from poet_solvers.backends import BackendName, SolveLimits
from poet_solvers.bounds.proof import Proof
from poet_solvers.desk import Desk


class Prover:
    """The LP, then the MILPs of the first-run relaxation."""

    def __init__(
        self,
        problem: Problem,
        *,
        backend: BackendName = "highs",
        limits: SolveLimits,
        cancel: threading.Event | None = None,
    ) -> None:
        self._proof = Proof(problem, backend, limits, cancel)

    def first(self, desk: Desk) -> None:
        """Cheap bounds."""
        best = desk.best()
        if best is not None:
            self._proof.by_lp(best.cost, desk.left_seconds())
            desk.take(self._proof.bound)

    def run(self, desk: Desk) -> None:
        """Stronger bounds."""
        best = desk.best()
        if best is not None:
            self._proof.by_milp(best.cost, best.schedule, desk.left_seconds())
            desk.take(self._proof.bound)
            desk.take(self._proof.bound_for(best.schedule))
