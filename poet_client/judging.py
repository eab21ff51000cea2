"""What is asked of a server, in figures that are decided here, and the judge's word on its answer.

Invariant: a plan that leaves this module is for exactly the problem that was asked, within bounds on
bytes and instructions, and was accepted by the judge against the caller's own graph.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from poet_client.views import JobView, invalid
from poet_core.baseline import judge_keep_everything
from poet_core.documents import DEFAULT_LIMITS, Limits
from poet_core.errors import DocumentError, PlanError
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import FLASH_WRITES_OF_PEAK, PlanRequest
from poet_core.verify import verify

# An instruction takes at most about 45 bytes, an op's or storage's costs about 150.
_BYTES_PER_INSTRUCTION = 64
_BYTES_PER_ITEM = 512


def with_figures(request: PlanRequest, problem: Problem | None = None) -> PlanRequest:
    """The request with the profile and absolute limits in place of names and ratios, so that what
    the server must answer is decided here. Raises what `PlanRequest.problem` raises; `problem`:
    where it was made before."""
    problem = problem or request.problem()
    budget = problem.budget
    writes = budget.flash_write_bytes
    if writes is None:
        keep = judge_keep_everything(
            request.graph,
            problem.costs,
            reserved_bytes=budget.reserved_bytes,
            alignment_bytes=budget.alignment_bytes,
        )
        writes = FLASH_WRITES_OF_PEAK * keep.peak_bytes
    return replace(
        request,
        device=request.profile,
        time_ratio=None,
        step_seconds=budget.step_seconds,
        energy_ratio=None,
        energy_joules=budget.energy_joules,
        flash_bytes=budget.flash_bytes,
        flash_write_bytes=writes,
    )


def limits_for(graph: TrainingGraph | None) -> Limits:
    """What an answer about this graph may be at most; None: about a graph that is not known here."""
    if graph is None:
        return DEFAULT_LIMITS
    items = len(graph.ops) + len(graph.storages)
    most = 64 * len(graph.ops) * _BYTES_PER_INSTRUCTION + items * _BYTES_PER_ITEM
    return Limits(
        document_bytes=min(DEFAULT_LIMITS.document_bytes, most + 2**20),
        ops=len(graph.ops),  # instructions are bounded by 64 an op
        storages=len(graph.storages),
    )


def judged(document: Any, request: PlanRequest) -> Plan:
    """The plan in a JSON value. Raises ServiceError (it is none) or PlanError (it is for another
    problem, or the judge refuses it)."""
    try:
        plan = plan_from_document(document, limits_for(request.graph), "$.plan")
    except DocumentError as error:
        raise invalid(error) from error
    _check_same_problem(plan, request.problem())
    verify(request.graph, plan)
    return plan


def judged_view(view: JobView, request: PlanRequest) -> Plan | None:
    """The judged plan of a view; None where the view has none."""
    return None if view.plan_document is None else judged(view.plan_document, request)


def _check_same_problem(plan: Plan, problem: Problem) -> None:
    pairs = {
        "budget": (plan.budget, problem.budget),
        "costs": (plan.costs, problem.costs),
        "device": (plan.device_name, problem.device_name),
        "objective": (plan.objective, problem.objective),
        "allowed": (plan.allowed, problem.allowed),
    }
    for part, (answered, asked) in pairs.items():
        if answered != asked:
            raise PlanError(
                f"The server's plan has another {part} than was asked for.",
                code="plan_for_other_problem",
                hint="Plan locally, or use another server.",
                details={"part": part},
            )
