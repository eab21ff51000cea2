"""POET's MILP as the judge counts: transfers take time, results are kept, persistent storages move.

    Problem -> values -> windows -> build_model -> a backend -> decode -> (the judge decides)

The model is a restriction: no schedule that runs an op twice in one stage, brings back a
superseded version or reorders first runs is in it. `docs/formulation.md` has the whole of it.
"""

from __future__ import annotations

import threading

import pulp

from poet_core.plan import Objective, Problem
from poet_solvers.milp_memory import add_memory
from poet_solvers.milp_model import JudgedModel, Terms, scaled
from poet_solvers.milp_rows import (
    add_decisions,
    add_dependencies,
    add_flash,
    add_residency,
    add_useful_runs,
)
from poet_solvers.twins import add_twin_order
from poet_solvers.values import ValueTable, value_table
from poet_solvers.windows import Windows, possible_runs


class BuildCancelledError(Exception):
    """The caller cancelled while the model was built."""


def judged_model(
    problem: Problem,
    *,
    table: ValueTable | None = None,
    windows: Windows | None = None,
    margin_bytes: int = 0,
    cancel: threading.Event | None = None,
) -> JudgedModel:
    """Builds the model, unsolved. `margin_bytes` is taken off the RAM budget, for a solver whose
    rounding broke it. Raises BuildCancelledError soon after `cancel`.
    """
    table = table or value_table(problem.graph, problem.budget)
    model = JudgedModel(
        problem=problem,
        table=table,
        windows=windows or possible_runs(problem, table),
        margin_bytes=margin_bytes,
    )
    for add in _PARTS:
        if cancel is not None and cancel.is_set():
            raise BuildCancelledError
        add(model)
    return model


def _set_objective(model: JudgedModel) -> None:
    costs = model.problem.costs
    if model.problem.objective is Objective.ENERGY:
        terms, constant = energy_terms(model), costs.base_joules
    else:
        terms, constant = seconds_terms(model), costs.base_seconds
    total = pulp.LpAffineExpression(constant=constant)
    for variable, weight in terms:
        total.addterm(variable, weight)
    model.pulp_model.setObjective(total)


def seconds_terms(model: JudgedModel) -> Terms:
    """Seconds beyond base compute: second runs and all transfers, summed (no overlap)."""
    costs = model.problem.costs
    return _per_event(model, costs.op_seconds, costs.page_in_seconds, costs.page_out_seconds)


def energy_terms(model: JudgedModel) -> Terms:
    """Joules beyond base energy, idle power while the added seconds last included."""
    costs = model.problem.costs
    terms = _per_event(model, costs.op_joules, costs.page_in_joules, costs.page_out_joules)
    return terms + scaled(seconds_terms(model), costs.idle_watts)


def _per_event(
    model: JudgedModel,
    of_op: tuple[float, ...],
    of_page_in: tuple[float, ...],
    of_page_out: tuple[float, ...],
) -> Terms:
    values = model.table.values
    terms: Terms = [(run, of_op[op_id]) for (_, op_id), run in model.runs.items()]
    terms += [(var, of_page_in[values[v].storage]) for (v, _), var in model.page_in.items()]
    terms += [(var, of_page_out[values[v].storage]) for (v, _), var in model.page_out.items()]
    return [(variable, weight) for variable, weight in terms if weight]


def _add_limits(model: JudgedModel) -> None:
    """Step time and energy, each as a multiple of its budget."""
    budget, costs = model.problem.budget, model.problem.costs
    for name, limit, base, terms in (
        ("step_seconds", budget.step_seconds, costs.base_seconds, seconds_terms),
        ("energy_joules", budget.energy_joules, costs.base_joules, energy_terms),
    ):
        if limit is not None:
            unit = limit or 1.0
            model.row(scaled(terms(model), 1 / unit), "<=", (limit - base) / unit, name)


_PARTS = (
    add_decisions,
    add_residency,
    add_dependencies,
    add_useful_runs,
    add_flash,
    add_memory,
    add_twin_order,
    _add_limits,
    _set_objective,
)
