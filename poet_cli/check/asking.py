"""Asking a planner for a plan that is good enough, here or at a service.

A check asks whether there is a plan inside the limits. One that is there is enough: the planner gets
a second to make it better and is stopped then.

    a plan inside the limit on the objective, and the gap small or a second gone  -> stop
    anything else                                                                -> go on

Invariant: what is returned was judged for the very problem.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poet_cli.server_options import ServerChoice
    from poet_core.plan import Plan
    from poet_core.plan_request import PlanRequest

# Plans this near to what is proven need no better one.
SMALL_GAP = 0.01
_MORE_SECONDS = 1.0
_PATIENCE_SHARE = 0.4
_ROUNDING = 1e-9


@dataclass(slots=True)
class Enough:
    """Hears of the best plan so far, and says when it will do. `limit`: what it may cost, in joules
    or seconds by its objective. `more_seconds`: for how long a plan that will do is made better."""

    limit: float | None
    more_seconds: float = _MORE_SECONDS
    _since: float | None = field(default=None, init=False)
    _close: bool = field(default=False, init=False)

    def hear(self, cost: float | None, bound: float | None) -> None:
        """The cost of the best plan and what is proven of it, where they are known."""
        if cost is None or (self.limit is not None and cost > self.limit * (1 + _ROUNDING)):
            return
        if self._since is None:
            self._since = time.monotonic()
        self._close = bound is not None and cost - bound <= SMALL_GAP * cost

    def reached(self) -> bool:
        """Whether the planner may stop."""
        since = self._since
        return since is not None and (self._close or time.monotonic() - since >= self.more_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Plans here, or at a `server`; with its fallback, here where it is out of reach. `graph_sha256`
    is the hash of every request's graph."""

    graph_sha256: str
    cancel: threading.Event
    server: ServerChoice | None = None

    def plan(self, request: PlanRequest, enough: Enough) -> Plan:
        """The plan of `solve`, judged. Raises BudgetError, PlanningError, and what a client raises."""
        from poet_core.verify import verify
        from poet_solvers.frontier_work import stopping_when

        stop = threading.Event()
        request = replace(
            request, patience_seconds=max(1.0, _PATIENCE_SHARE * request.wall_seconds)
        )
        with stopping_when(lambda: self.cancel.is_set() or enough.reached(), stop):
            found = (
                self._here(request, enough, stop)
                if self.server is None
                else self._there(self.server, request, enough, stop)
            )
        verify(request.graph, found, self.graph_sha256)
        return found

    def _here(self, request: PlanRequest, enough: Enough, stop: threading.Event) -> Plan:
        from poet_solvers.backends import SolveLimits
        from poet_solvers.portfolio import solve

        return solve(
            request.stated_problem(),
            SolveLimits(
                wall_seconds=request.wall_seconds, patience_seconds=request.patience_seconds
            ),
            lambda now: enough.hear(now.incumbent, now.bound),
            cancel=stop,
        ).plan(self.graph_sha256)

    def _there(
        self, server: ServerChoice, request: PlanRequest, enough: Enough, stop: threading.Event
    ) -> Plan:
        from poet_cli.remote import ServerPlanner

        return ServerPlanner(
            server, stop, on_progress=lambda now: enough.hear(now.cost, now.bound)
        ).plan(request)
