"""The least RAM at a cost, with a service that plans: bisection here, plans from there, judged here.

    floor |== proven too small ==|-- tried --|== the plan found needs no more ==| peak

A try ends as soon as the server tells of a plan that is cheap enough. What is proven is what is
proven here, by the RAM floor: a server's word proves nothing. Ctrl-C keeps the best plan so far.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from poet_cli.output import say
from poet_cli.remote import STOPPING
from poet_cli.server_options import ServerChoice
from poet_core.errors import BudgetError, PlanningError, PoetError, ServiceError
from poet_core.plan import Plan
from poet_core.units import format_bytes
from poet_core.verify import verify

if TYPE_CHECKING:
    from poet_client import JobProgress, PlannerClient
    from poet_core.plan_request import PlanRequest
    from poet_solvers.least_ram import LeastRam, Try

_PARTS = 32
_LEAST_SECONDS = 0.1
_STATUS = "The least RAM found for the cost allowed; cheaper plans for it were not looked for."


class _EnoughError(Exception):
    """There is a plan that is cheap enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastRamQuery:
    """`wall_seconds` is for the whole query; `overhead`: 0.05 allows 5% more than everything kept."""

    request: PlanRequest
    overhead: float
    wall_seconds: float


def least_ram_at(
    server: ServerChoice, query: LeastRamQuery, tell: Callable[[str], None]
) -> tuple[LeastRam, bool] | None:
    """The least RAM found, and whether Ctrl-C cut it short; None: a plan cannot be had there, and
    looking here is wanted instead. Raises what `PlannerClient.submit` raises."""
    search = _Search(query, tell)
    try:
        with server.client() as client:
            interrupted = search.bisect(client)
    except PoetError as error:
        if server.falls_back(error):
            return None
        raise
    return search.result(interrupted), interrupted


class _Search:
    """The best plan so far, and what is proven too small."""

    def __init__(self, query: LeastRamQuery, tell: Callable[[str], None]) -> None:
        from poet_client.judging import with_figures
        from poet_core.bounds import check_above_floor
        from poet_solvers.backends import SolveLimits
        from poet_solvers.desk import ROUNDING, base_cost
        from poet_solvers.frontier_points import everything_kept, with_ram
        from poet_solvers.least_ram_bounds import below_floor, grid_of
        from poet_solvers.portfolio import solve

        self._query, self._tell, self._began = query, tell, time.monotonic()
        self._problem = with_figures(query.request).problem()
        self._keep = everything_kept(self._problem)
        most = with_ram(self._problem, self._keep.peak_bytes)
        self._floor = check_above_floor(most.graph, most.budget, paging=self._problem.allowed.page)
        self._grid = grid_of(self._problem, self._floor.floor_bytes, self._keep.peak_bytes)
        self._too_small = below_floor(self._floor, self._grid.unit)
        self._base = base_cost(self._problem)
        self._allowed = self._base * (1 + query.overhead) * (1 + ROUNDING)
        # Everything fits in there: no solver runs.
        self._plan = self._restated(solve(most, SolveLimits(wall_seconds=10.0)).plan())
        self._tries: list[Try] = []

    def bisect(self, client: PlannerClient) -> bool:
        """Tries between what is too small and the plan; whether Ctrl-C came."""
        low, parts = self._too_small.ram_bytes, self._keep.peak_bytes - self._floor.floor_bytes
        coarse = max(self._grid.grain, parts // _PARTS)
        while self._plan.budget.ram_bytes - low > coarse and self._left() > _LEAST_SECONDS:
            middle = self._grid.between(low, self._plan.budget.ram_bytes)
            tries = math.ceil(math.log2((self._plan.budget.ram_bytes - low) / coarse))
            self._tell(f"Trying {format_bytes(middle)}")
            try:
                self._try(client, middle, max(_LEAST_SECONDS, self._left() / max(1, tries)))
            except KeyboardInterrupt:
                say(STOPPING)
                return True
            if self._plan.budget.ram_bytes > middle:
                low = middle
        return False

    def _try(self, client: PlannerClient, ram_bytes: int, seconds: float) -> None:
        from poet_solvers.least_ram import Try

        began, plan = time.monotonic(), self._asked(client, ram_bytes, seconds)
        cost = None if plan is None else plan.objective_value
        took = time.monotonic() - began
        self._tries.append(Try(ram_bytes=ram_bytes, cost=cost, seconds=took))
        if plan is not None and plan.objective_value <= self._allowed:
            self._plan = self._restated(plan)

    def _asked(self, client: PlannerClient, ram_bytes: int, seconds: float) -> Plan | None:
        """A plan within `ram_bytes`, the first that is cheap enough; None where none was found."""
        request = self._query.request
        profile = request.profile
        # What is looked for may be more than the device has: the answer says so.
        room = replace(profile, ram_bytes=max(profile.ram_bytes, self._keep.peak_bytes))
        asked = replace(request, device=room, ram_bytes=ram_bytes, wall_seconds=seconds)
        try:
            job = client.submit(asked)
            try:
                return job.wait(on_progress=self._look)
            except (_EnoughError, KeyboardInterrupt) as cut_short:
                plan = job.judge(job.stop())
                if isinstance(cut_short, KeyboardInterrupt):
                    raise
                return plan
        except (BudgetError, PlanningError):
            return None
        except ServiceError as error:
            if error.code == "job_stopped":
                return None
            raise

    def _look(self, now: JobProgress) -> None:
        if now.cost is not None and now.cost <= self._allowed:
            raise _EnoughError

    def _restated(self, plan: Plan) -> Plan:
        """The plan for the RAM that it needs. Its bound holds there too: less RAM is no cheaper."""
        restated = replace(
            plan,
            budget=replace(plan.budget, ram_bytes=plan.claims.peak_bytes),
            planned_by=replace(plan.planned_by, status=_STATUS),
        )
        verify(self._problem.graph, restated)
        return restated

    def _left(self) -> float:
        return self._query.wall_seconds - (time.monotonic() - self._began)

    def result(self, interrupted: bool) -> LeastRam:
        """What was found."""
        from poet_solvers.least_ram import LeastRam, LeastRamEnding

        ending = LeastRamEnding.BISECTED
        if self._plan.budget.ram_bytes - self._grid.unit <= self._too_small.ram_bytes:
            ending = LeastRamEnding.PROVEN
        elif interrupted:
            ending = LeastRamEnding.CANCELLED
        elif self._left() <= _LEAST_SECONDS:
            ending = LeastRamEnding.TIME
        return LeastRam(
            ram_bytes=self._plan.budget.ram_bytes,
            plan=self._plan,
            overhead=self._query.overhead,
            base_cost=self._base,
            allowed_cost=self._allowed,
            too_small=(self._too_small,),
            ending=ending,
            tries=tuple(self._tries),
            keep=self._keep,
            floor=self._floor,
            wall_seconds=time.monotonic() - self._began,
        )
