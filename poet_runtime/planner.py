"""One-method planners: a request goes in, a plan comes out; here, or at a service.

A planner is anything with `plan(request) -> Plan`. Invariant: no planner is believed: `accept`
judges what it returns against the step's own graph, device and budget.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal, Protocol

from poet_core.baseline import judge_keep_everything, keep_everything
from poet_core.costs import Costs
from poet_core.errors import PlanError, ServiceError
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Budget, Plan, PlannedBy, Problem, Schedule
from poet_core.plan_request import FLASH_WRITES_OF_PEAK, PlanRequest
from poet_core.simulate import Judgement, simulate
from poet_core.units import format_bytes
from poet_core.verify import verify


class Planner(Protocol):
    """What TrainStep asks for a plan."""

    def plan(self, request: PlanRequest) -> Plan:
        """A plan for the request, or an error of the tree."""
        ...


class LocalPlanner:
    """Plans in this process, through poet_solvers."""

    def plan(self, request: PlanRequest) -> Plan:
        """See `poet_solvers.plan`."""
        from poet_solvers import plan
        from poet_solvers.backends import SolveLimits

        backend: Any = request.backend  # an unknown name is refused by poet_solvers, with a list
        return plan(
            request.problem(),
            backend=backend,
            planner=request.planner,
            limits=SolveLimits(
                wall_seconds=request.wall_seconds, patience_seconds=request.patience_seconds
            ),
        )


class RemotePlanner:
    """Plans at the service at `server`: TrainStep(..., planner=RemotePlanner(url, fallback="local")).

    `fallback="local"`: plans in this process where the service cannot be reached, is out of order or
    stays busy, with a warning that says so. `client`: more arguments of PlannerClient (token, ...).
    """

    def __init__(
        self, server: str, *, fallback: Literal["local"] | None = None, **client: Any
    ) -> None:
        self._server, self._fallback, self._client = server, fallback, client

    def plan(self, request: PlanRequest) -> Plan:
        """See `poet_client.PlannerClient.answer`."""
        from poet_client import PlannerClient, is_unavailable

        try:
            return PlannerClient(self._server, **self._client).answer(request)
        except ServiceError as error:
            if self._fallback is None or not is_unavailable(error):
                raise
            message = f"{error.message} Planning in this process instead."
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return LocalPlanner().plan(request)


def planner_of(planner: Planner | str | None) -> Planner:
    """A planner from what a user passes: an object, the address of a service, or nothing."""
    if planner is None:
        return LocalPlanner()
    if isinstance(planner, str):
        return RemotePlanner(planner)
    return planner


def plan_of(problem: Problem, schedule: Schedule, planned_by: PlannedBy) -> Plan:
    """A plan made of a schedule, with the judge's own figures. Raises PlanError."""
    judgement = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    return Plan(
        graph_sha256=graph_sha256(problem.graph),
        device_name=problem.device_name,
        budget=problem.budget,
        objective=problem.objective,
        allowed=problem.allowed,
        costs=problem.costs,
        schedule=schedule,
        claims=judgement.claims,
        planned_by=planned_by,
    )


def obtain_plan(request: PlanRequest, planner: Planner | str | None) -> tuple[Plan, Judgement]:
    """A plan for the request from `planner`, judged here. Raises what planner and judge raise."""
    if request.flash_write_bytes is None:
        problem = request.problem()
        cap = flash_write_cap(problem.graph, problem.costs, problem.budget)
        request = replace(request, flash_write_bytes=cap)
    plan = planner_of(planner).plan(request)
    judgement = accept(
        request.graph,
        plan,
        problem=request.problem(),
        ram_bytes=request.ram_bytes,
        flash_write_bytes=request.flash_write_bytes,
    )
    return plan, judgement


def unconstrained_plan(problem: Problem) -> Plan:
    """Keep-everything as a plan: what a step without a budget runs."""
    by = PlannedBy(
        formulation="keep everything",
        solver="none",
        status="no budget was given: nothing was planned",
        wall_seconds=0.0,
    )
    return plan_of(problem, keep_everything(problem.graph), by)


def accept(
    graph: TrainingGraph,
    plan: Plan,
    *,
    problem: Problem | None = None,
    ram_bytes: int | None = None,
    flash_write_bytes: int | None = None,
) -> Judgement:
    """The judgement of a plan that may run, from whoever it came.

    `problem`: what was asked; `ram_bytes`: the budget that was asked for; `flash_write_bytes`: cap
    on flash writes a step (default 4 x keep-everything's peak). Raises PlanError:
    `plan_for_other_graph`, `plan_budget_larger`, `flash_writes_exceeded`, or the judge's code.
    """
    judgement = verify(graph, plan)
    if ram_bytes is not None and plan.budget.ram_bytes > ram_bytes:
        raise PlanError(
            f"The plan is for a RAM budget of {plan.budget.ram_bytes} bytes; "
            f"{ram_bytes} bytes ({format_bytes(ram_bytes)}) were asked for.",
            code="plan_budget_larger",
            hint="Plan again for the smaller budget.",
            details={"ram_bytes": ram_bytes, "plan_ram_bytes": plan.budget.ram_bytes},
        )
    cap = flash_write_bytes
    if cap is None:
        cap = flash_write_cap(graph, plan.costs, plan.budget)
    if judgement.flash_bytes_written > cap:
        raise PlanError(
            f"The plan writes {judgement.flash_bytes_written} bytes to flash a step; the cap is "
            f"{cap} ({format_bytes(cap)}).",
            code="flash_writes_exceeded",
            hint="Raise flash_write_bytes if the flash can bear it.",
            details={"flash_bytes_written": judgement.flash_bytes_written, "cap_bytes": cap},
        )
    if problem is not None:
        simulate(graph, problem.costs, problem.budget, plan.schedule, problem.allowed)
    return judgement


def flash_write_cap(graph: TrainingGraph, costs: Costs, budget: Budget) -> int:
    """The default cap on flash writes a step, in bytes."""
    keep = judge_keep_everything(
        graph,
        costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    )
    return FLASH_WRITES_OF_PEAK * keep.peak_bytes
