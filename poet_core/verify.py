"""A whole plan against a graph: the judge, then the plan's claims against the judge's figures."""

from __future__ import annotations

import math

from poet_core.errors import PlanError
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan
from poet_core.simulate import Judgement, simulate

_CLAIM_TOLERANCE = 1e-9  # relative; a sum of the same floats in another order stays within it


def verify(graph: TrainingGraph, plan: Plan, known_sha256: str | None = None) -> Judgement:
    """Judge `plan` for `graph`. Raises PlanError: `plan_for_other_graph`, the code of the first
    broken rule, or `claim_mismatch`. `known_sha256`: the graph's, where the caller has it."""
    expected = known_sha256 or graph_sha256(graph)
    if plan.graph_sha256 != expected:
        raise PlanError(
            f"The plan is for the graph {plan.graph_sha256[:16]!a}…, this graph is "
            f"{expected[:16]!a}….",
            code="plan_for_other_graph",
            hint="Plan again for this graph; any change of model, batch or torch changes it.",
        )
    judgement = simulate(graph, plan.costs, plan.budget, plan.schedule, plan.allowed)
    _check_claims(plan, judgement)
    return judgement


def _check_claims(plan: Plan, judgement: Judgement) -> None:
    figures = judgement.claims
    for name in ("peak_bytes", "flash_peak_bytes", "flash_bytes_written"):
        _compare(name, getattr(plan.claims, name), getattr(figures, name), 0.0)
    for name in ("step_seconds", "energy_joules"):
        _compare(name, getattr(plan.claims, name), getattr(figures, name), _CLAIM_TOLERANCE)


def _compare(name: str, claimed: float, judged: float, tolerance: float) -> None:
    if not math.isclose(claimed, judged, rel_tol=tolerance, abs_tol=0.0):
        raise PlanError(
            f"The plan claims {name} = {claimed}; the judge finds {judged}.",
            code="claim_mismatch",
            details={"claim": name, "claimed": claimed, "judged": judged},
        )
