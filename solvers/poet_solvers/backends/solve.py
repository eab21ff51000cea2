"""`solve_model`: one PuLP model, one solver, one honest result.

Invariant: an answer with a solution has passed `LinearModel.broken_rule` with its integer variables
rounded, its objective is recomputed here, and nothing of the solver is left running or on disk.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

import pulp

from poet_core.errors import PlanningError, UsageError
from poet_solvers.backends.adapter import MODEL_NAME, Adapter, Answer
from poet_solvers.backends.cbc import CbcAdapter
from poet_solvers.backends.gurobi import GurobiAdapter
from poet_solvers.backends.highs import HighsAdapter
from poet_solvers.backends.model_file import LinearModel, read_model, write_mps
from poet_solvers.backends.process import ProcessEnd, log_tail, private_folder, run_solver
from poet_solvers.backends.result import BackendResult, SolveLimits, SolveStatus

BackendName = Literal["cbc", "highs", "gurobi"]

_ADAPTERS: Mapping[str, Adapter] = {
    "cbc": CbcAdapter(),
    "highs": HighsAdapter(),
    "gurobi": GurobiAdapter(),
}
# The least time that a solver is started for, however much of the limit writing the model took.
_LEAST_SECONDS = 0.01


def available_backends() -> tuple[str, ...]:
    """The solvers that can be used here, in order of preference; a missing one is no error."""
    return tuple(name for name, adapter in _ADAPTERS.items() if adapter.version() is not None)


def solve_model(
    model: pulp.LpProblem,
    *,
    backend: BackendName = "cbc",
    limits: SolveLimits | None = None,
    warm_start: Mapping[str, float] | None = None,
    cancel: threading.Event | None = None,
) -> BackendResult:
    """Solves `model` with `backend` in its own process group; the caller's thread waits.

    `warm_start` gives values of some or all variables by name; a poor one costs time, never
    correctness. Setting `cancel` ends the solve within about a tenth of a second. Raises
    PlanningError (`model_refused`: not a finite model; `solver_missing`) and UsageError (limits or
    warm start make no sense).
    """
    started = time.monotonic()
    limits = limits or SolveLimits()
    _check_limits(limits)
    label = _label(backend)
    linear = read_model(model)
    start = _start_point(linear, warm_start)
    with private_folder() as folder:
        (folder / MODEL_NAME).write_text(write_mps(linear), encoding="ascii")
        left = max(_LEAST_SECONDS, limits.wall_seconds - (time.monotonic() - started))
        adapter = _ADAPTERS[backend]
        process = run_solver(
            adapter.command(folder, replace(limits, wall_seconds=left), start),
            folder=folder,
            wall_seconds=left,
            memory_bytes=limits.memory_bytes,
            cancel=cancel,
        )
        if process.end is ProcessEnd.CANCELLED:
            answer = Answer(status=SolveStatus.CANCELLED, message=SolveStatus.CANCELLED.sentence)
        else:
            answer = adapter.read(folder, process)
    return _result(
        linear,
        answer,
        proof_asked=limits.relative_gap == 0.0,
        seconds=time.monotonic() - started,
        backend=label,
        log=log_tail(process.log),
    )


def _result(
    model: LinearModel,
    answer: Answer,
    *,
    proof_asked: bool,
    seconds: float,
    backend: str,
    log: str,
) -> BackendResult:
    values: dict[str, float] = {}
    objective = None
    status, message = answer.status, answer.message
    if status.has_solution and answer.point is not None:
        values = _values(model, answer.point)
        broken = model.broken_rule(values)
        if broken is None:
            objective = model.objective_of(values)
        else:
            status, values = SolveStatus.FAILED, {}
            message = f"{backend} gave an answer that breaks the model: {broken}."
    return BackendResult(
        status=status,
        objective=objective,
        bound=_bound(model, answer, status, objective, proof_asked),
        values=values,
        seconds=seconds,
        backend=backend,
        message=message,
        log_tail=log,
    )


def _bound(
    model: LinearModel,
    answer: Answer,
    status: SolveStatus,
    objective: float | None,
    proof_asked: bool,
) -> float | None:
    """The solver's bound in the model's units, never past the incumbent that it claims to bound."""
    if status is SolveStatus.OPTIMAL and proof_asked:
        return objective
    if answer.bound is None or status in (SolveStatus.INFEASIBLE, SolveStatus.UNBOUNDED):
        return None
    bound = model.in_own_units(answer.bound)
    if objective is None:
        return bound
    return max(bound, objective) if model.maximise else min(bound, objective)


def _values(model: LinearModel, point: Mapping[int, float]) -> dict[str, float]:
    values = {}
    for index, column in enumerate(model.columns):
        value = point.get(index, 0.0)
        values[column.name] = float(round(value)) if column.integer else value
    return values


def _start_point(
    model: LinearModel, warm_start: Mapping[str, float] | None
) -> dict[int, float] | None:
    if warm_start is None:
        return None
    index_of = {column.name: index for index, column in enumerate(model.columns)}
    unknown = [name for name in warm_start if name not in index_of]
    if unknown or not all(math.isfinite(value) for value in warm_start.values()):
        raise UsageError(
            "A warm start must give finite values of the model's own variables"
            + (f"; it names {unknown[0]!r}." if unknown else "."),
            code="warm_start_invalid",
            hint="Build it from the same model that is solved.",
        )
    return {index_of[name]: float(value) for name, value in warm_start.items()}


def _check_limits(limits: SolveLimits) -> None:
    if not (math.isfinite(limits.wall_seconds) and limits.wall_seconds > 0):
        wrong = f"wall_seconds must be positive and finite, got {limits.wall_seconds}"
    elif not 0 <= limits.relative_gap < math.inf:
        wrong = f"relative_gap must be 0 or more, got {limits.relative_gap}"
    elif limits.threads < 1 or limits.seed < 0:
        wrong = f"threads must be 1 or more, seed 0 or more; got {limits.threads}, {limits.seed}"
    elif limits.memory_bytes is not None and limits.memory_bytes < 1:
        wrong = f"memory_bytes must be positive, got {limits.memory_bytes}"
    else:
        return
    raise UsageError(f"{wrong}.", code="limits_invalid", hint="See SolveLimits.")


def _label(backend: str) -> str:
    """Name and version; refuses a solver that is not here."""
    if backend not in _ADAPTERS:
        raise UsageError(
            f"Unknown solver {backend!r}; known are {', '.join(get_args(BackendName))}.",
            code="solver_unknown",
            hint="Use cbc, which comes with PuLP.",
        )
    version = _ADAPTERS[backend].version()
    if version is None:
        raise PlanningError(
            f"The solver {backend} is not installed or not licensed on this machine.",
            code="solver_missing",
            hint=f"Usable here: {', '.join(available_backends()) or 'none'}.",
        )
    return f"{backend} {version}"
