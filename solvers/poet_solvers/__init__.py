"""poet_solvers: from a planning problem to a plan. PuLP and the MILP solvers live only here.

    from poet_solvers import plan
    plan(problem, backend="cbc")            -> poet_core.plan.Plan, judged

Nothing in this package grades itself: what it returns goes to `poet_core.simulate`, which imports
none of it. Importing the package costs nothing (PuLP comes with the first use of `plan`):

    planner          `plan`: the one public function
    poet_milp        the paper's MILP as the judge counts: what the planner answers with
    evict            a schedule that always exists where paging is allowed
    backends         one adapter a MILP solver: solve_model(pulp model, limits) -> BackendResult
    poet_published   the paper's MILP, verbatim, for POET's own published optima
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poet_solvers.planner import Progress, plan

__all__ = ["Progress", "plan"]


def __getattr__(name: str) -> Any:
    """`plan` and `Progress`, imported when they are first asked for."""
    if name in __all__:
        from poet_solvers import planner

        return getattr(planner, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
