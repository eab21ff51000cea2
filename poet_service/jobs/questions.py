"""What can be answered at once, without a job: does a request make sense, does a plan hold.

Nothing is solved and nothing is stored. Both run in a work thread.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import check_base_costs, ram_floor
from poet_core.documents import refuse
from poet_core.errors import BudgetError, PlanError, PoetError, UsageError
from poet_core.graph_document import graph_sha256
from poet_core.plan import HoldsFor, Plan, Problem
from poet_core.plan_request import PlanRequest
from poet_core.simulate import Judgement, simulate
from poet_core.summary import summarize
from poet_service.jobs.asked import (
    read_members,
    read_plan_member,
    read_plan_request,
    read_start,
)
from poet_service.problems import error_document
from poet_service.settings import Settings

_NO_FIT = frozenset({"ram_below_floor", "ram_above_device", "time_below_base", "energy_below_base"})


def examine(body: bytes, settings: Settings) -> dict[str, Any]:
    """What is known of a request without planning: sizes, the floor, bounds, whether it can fit.

    `fits` False is proven; True says only that nothing speaks against it. Raises as `read_asked`
    does, but for a budget that cannot be met, which is told.
    """
    members = read_members(body, settings)
    start = members.pop("warm_start", None)
    request = read_plan_request(members, settings)
    if start is not None:
        read_start(start, request, settings)
    problem = request.stated_problem()
    graph, budget, costs = problem.graph, problem.budget, problem.costs
    keep = judge_keep_everything(
        graph, costs, reserved_bytes=budget.reserved_bytes, alignment_bytes=budget.alignment_bytes
    )
    floor = ram_floor(graph, budget, paging=problem.allowed.page)
    refused = _refused(request)
    return {
        "graph_sha256": graph_sha256(graph),
        "ops": len(graph.ops),
        "storages": len(graph.storages),
        "references": sum(len(op.touches) for op in graph.ops),
        "ram_bytes": budget.ram_bytes,
        "keep_everything_bytes": keep.peak_bytes,
        "keep_everything_seconds": keep.step_seconds,
        "keep_everything_joules": keep.energy_joules,
        "keep_everything_fits": keep.peak_bytes <= budget.ram_bytes,
        "floor_bytes": floor.floor_bytes,
        "floor_op": floor.op_id,
        "floor_set_by": floor.set_by,
        "lower_bound": {
            "step_seconds": costs.base_seconds,
            "energy_joules": costs.base_joules,
            "holds_for": str(HoldsFor.ANY_ORDER),
            "by": "every op runs at least once",
        },
        "fits": refused is None,
        "refused": None if refused is None else error_document(refused),
    }


def _refused(request: PlanRequest) -> PoetError | None:
    """Why no plan can exist, where that is proven before anything is planned."""
    try:
        check_base_costs(request.problem())
    except (BudgetError, UsageError) as error:
        if error.code not in _NO_FIT:
            raise
        return error
    return None


def judge_supplied(body: bytes, settings: Settings) -> dict[str, Any]:
    """The judge on a plan that somebody else made, under the budget of the request beside it.

    `claims_hold`: the plan says of itself what the judge finds. Raises as `read_asked` does, but
    for what the judge refuses, which is told.
    """
    members = read_members(body, settings)
    if members.get("plan") is None:
        refuse("$.plan", "a value", "nothing: the field is missing", code="missing_field")
    plan_document = members.pop("plan")
    problem = read_plan_request(members, settings).stated_problem()
    supplied = read_plan_member(plan_document, "$.plan", settings)
    try:
        judgement = _judge(problem, supplied)
    except PlanError as error:
        return {
            "accepted": False,
            "judgement": None,
            "claims_hold": None,
            "summary": None,
            "error": error_document(error) | {"kind": "plan"},
        }
    plan = _under(problem, supplied, judgement)
    summary = summarize(problem.graph, plan, judgement)
    return {
        "accepted": True,
        "judgement": asdict(judgement.claims)
        | {"compute_runs": judgement.compute_runs, "transfers": judgement.transfer_count},
        "claims_hold": supplied.claims == judgement.claims,
        "summary": summary.to_document() | {"line": summary.line()},
        "error": None,
    }


def _judge(problem: Problem, plan: Plan) -> Judgement:
    expected = graph_sha256(problem.graph)
    if plan.graph_sha256 != expected:
        raise PlanError(
            "The plan is for another graph.",
            code="plan_for_other_graph",
            hint="Plan again for this graph; any change of model, batch or torch changes it.",
        )
    return simulate(problem.graph, problem.costs, problem.budget, plan.schedule, problem.allowed)


def _under(problem: Problem, plan: Plan, judgement: Judgement) -> Plan:
    """The plan as an answer to this problem; its bound was for its own."""
    return replace(
        plan,
        device_name=problem.device_name,
        budget=problem.budget,
        costs=problem.costs,
        allowed=problem.allowed,
        objective=problem.objective,
        claims=judgement.claims,
        bound=None,
    )
