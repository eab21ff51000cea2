"""What is proven of every schedule, in whatever order: the bound that a verdict may rest on.

A planner says the strongest bound that speaks of its plan, and that is often one for the plan's own
order. Invariant: a bound from here holds for every schedule that the problem allows.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from poet_core.plan import Bound, HoldsFor, Plan, Problem

if TYPE_CHECKING:
    from poet_solvers.bounds.prove import Relaxed

_LP_SECONDS = 10.0


def bound_of_all(problem: Problem, plan: Plan, cancel: threading.Event) -> Bound | None:
    """The plan's bound where it speaks of every schedule, else one that is looked for now."""
    bound = plan.bound
    if bound is not None and (
        bound.holds_for is HoldsFor.ANY_ORDER
        or (bound.holds_for is HoldsFor.GIVEN_ORDER and not problem.allowed.reorder)
    ):
        return bound
    return any_order_bound(problem, cancel)


def any_order_bound(problem: Problem, cancel: threading.Event) -> Bound | None:
    """What a relaxation proves of every order; None where it proves nothing in the time."""
    from poet_solvers.backends import SolveLimits
    from poet_solvers.bounds.any_order import any_order_cover
    from poet_solvers.bounds.prove import lp_bound

    relaxation: Relaxed = any_order_cover(problem)
    return lp_bound(relaxation, SolveLimits(wall_seconds=_LP_SECONDS, threads=1), cancel)
