"""`solve_model`: one PuLP model, one solver, one honest result.

Invariant: an answer with a solution has passed `LinearModel.broken_rule` with its integer variables
rounded, its objective is recomputed here, and nothing of the solver is left running or on disk.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, get_args

import pulp

from poet_core.errors import PlanningError, UsageError
from poet_core.units import format_bytes
from poet_solvers.backends.adapter import MODEL_NAME, Adapter, Answer
from poet_solvers.backends.cbc import CbcAdapter
from poet_solvers.backends.gurobi import GurobiAdapter
from poet_solvers.backends.highs import HighsAdapter
from poet_solvers.backends.model_file import LinearModel, read_model, write_mps
from poet_solvers.backends.process import (
    ProcessEnd,
    ProcessResult,
    log_tail,
    private_folder,
    run_solver,
)
from poet_solvers.backends.result import BackendResult, SolveLimits, SolveStatus
from poet_solvers.backends.scaling import Scaled, scale

BackendName = Literal["cbc", "highs", "gurobi"]

_ADAPTERS: Mapping[str, Adapter] = {
    "cbc": CbcAdapter(),
    "highs": HighsAdapter(),
    "gurobi": GurobiAdapter(),
}
# The largest seed that every solver takes (Gurobi's; the others take 31 bits).
_MOST_SEED = 2_000_000_000
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
    label = require_backend(backend)
    linear = read_model(model)
    start = None if warm_start is None else _checked_start(linear, warm_start)
    decided = _decided(linear, label, started)
    if decided is not None:
        return decided
    if _is_set(cancel):  # reading and scaling a large model takes seconds
        return _without_solver(SolveStatus.CANCELLED, label, started)
    scaled = scale(linear)
    if _is_set(cancel):
        return _without_solver(SolveStatus.CANCELLED, label, started)
    point = None if start is None else scaled.point_forward(start)
    with private_folder() as folder:
        (folder / MODEL_NAME).write_text(write_mps(scaled.model), encoding="ascii")
        left = max(_LEAST_SECONDS, limits.wall_seconds - (time.monotonic() - started))
        adapter = _ADAPTERS[backend]
        begun = time.monotonic()
        process = run_solver(
            adapter.command(folder, _for_solver(limits, left), point),
            folder=folder,
            wall_seconds=left,
            memory_bytes=limits.memory_bytes,
            cancel=cancel,
        )
        if process.end is ProcessEnd.CANCELLED:
            answer = Answer(status=SolveStatus.CANCELLED, message=SolveStatus.CANCELLED.sentence)
        else:
            answer = _in_time(adapter.read(folder, process), time.monotonic() - begun, left)
    return _result(
        linear,
        scaled,
        answer,
        proof_asked=limits.relative_gap == 0.0,
        seconds=time.monotonic() - started,
        backend=label,
        process=process,
    )


def _in_time(answer: Answer, seconds: float, limit_seconds: float) -> Answer:
    """CBC says "infeasible" of a model whose time ran out in its first LP: no proof comes so late."""
    if answer.status is not SolveStatus.INFEASIBLE or seconds < limit_seconds:
        return answer
    message = f"The time was up when the solver said: {answer.message}"
    return replace(answer, status=SolveStatus.NOT_FOUND, message=message)


def _result(
    model: LinearModel,
    scaled: Scaled,
    answer: Answer,
    *,
    proof_asked: bool,
    seconds: float,
    backend: str,
    process: ProcessResult,
) -> BackendResult:
    values: dict[str, float] = {}
    objective = None
    status, message = _told_apart(model, answer), answer.message
    if status is SolveStatus.MEMORY:
        message = _with_figures(message, process)
    if status.has_solution and answer.point is None:
        status = SolveStatus.FAILED
        message = f"{backend} claims a solution and gave none ({answer.message})"
    elif answer.point is not None and status.has_solution:
        point = _rounded(model, scaled.point_back(answer.point))
        broken = _not_exact(model, point, answer.exact_below) or model.broken_rule(point)
        if broken is None:
            objective = model.objective_of(point)
            values = {
                column.name: value for column, value in zip(model.columns, point, strict=True)
            }
        else:
            status = SolveStatus.FAILED
            message = f"{backend} gave an answer that cannot be used: {broken}."
    bound = objective if status is SolveStatus.OPTIMAL and proof_asked else None
    if bound is None and status is not SolveStatus.FAILED:
        bound = _bound(scaled, answer, objective)
    return BackendResult(
        status=status,
        objective=objective,
        bound=bound,
        values=values,
        seconds=seconds,
        backend=backend,
        message=message,
        log_tail=log_tail(process.log),
        peak_memory_bytes=process.peak_memory_bytes,
        duals=_duals(model, scaled, answer),
    )


def _with_figures(message: str, process: ProcessResult) -> str:
    parts = []
    if process.cap_bytes is not None:
        parts.append(f"the cap was {format_bytes(process.cap_bytes)} of address space")
    if process.peak_memory_bytes is not None:
        parts.append(f"it held {format_bytes(process.peak_memory_bytes)} of RAM at most")
    return f"{message.removesuffix('.')}: {'; '.join(parts)}." if parts else message


def _duals(model: LinearModel, scaled: Scaled, answer: Answer) -> dict[str, float]:
    if len(answer.duals) != len(model.rows):
        return {}
    back = scaled.duals_back(answer.duals)
    return {row.name: value for row, value in zip(model.rows, back, strict=True)}


def _told_apart(model: LinearModel, answer: Answer) -> SolveStatus:
    """Which of "infeasible or unbounded" it is, where the model's own bounds can tell."""
    if answer.or_infeasible and model.objective_is_bounded:
        return SolveStatus.INFEASIBLE
    return answer.status


def _bound(scaled: Scaled, answer: Answer, objective: float | None) -> float | None:
    """The solver's bound in the model's units, never past the incumbent that it claims to bound."""
    if answer.bound is None or answer.status in (SolveStatus.INFEASIBLE, SolveStatus.UNBOUNDED):
        return None
    bound = scaled.objective_back(answer.bound)
    if objective is None:
        return bound
    return max(bound, objective) if scaled.objective_factor < 0 else min(bound, objective)


def _rounded(model: LinearModel, point: list[float]) -> list[float]:
    return [
        float(round(value)) if column.integer else value
        for column, value in zip(model.columns, point, strict=True)
    ]


def _not_exact(model: LinearModel, point: list[float], exact_below: float) -> str | None:
    for column, value in zip(model.columns, point, strict=True):
        if column.integer and abs(value) >= exact_below:
            return f"{column.name} has more digits ({value}) than are told exactly"
    return None


def _for_solver(limits: SolveLimits, wall_seconds: float) -> SolveLimits:
    """What the solver is told: more threads than cores only cost (CBC dies of 200)."""
    return replace(
        limits,
        wall_seconds=wall_seconds,
        threads=min(limits.threads, os.cpu_count() or 1),
        seed=limits.seed % (_MOST_SEED + 1),
    )


def _decided(model: LinearModel, backend: str, started: float) -> BackendResult | None:
    """A model that leaves nothing to decide, on which solvers differ: no columns, an empty range."""
    empty = next((column.name for column in model.columns if column.is_empty), None)
    if empty is None and model.columns:
        return None
    broken = model.broken_rule([]) if empty is None else f"no whole number for {empty}"
    return _without_solver(
        SolveStatus.INFEASIBLE if broken else SolveStatus.OPTIMAL,
        backend,
        started,
        objective=None if broken else model.objective_constant,
        message=f"Without the solver: {broken or 'there is nothing to decide'}.",
    )


def _without_solver(
    status: SolveStatus,
    backend: str,
    started: float,
    *,
    objective: float | None = None,
    message: str = "",
) -> BackendResult:
    return BackendResult(
        status=status,
        objective=objective,
        bound=objective,
        values={},
        seconds=time.monotonic() - started,
        backend=backend,
        message=message or status.sentence,
        log_tail="",
    )


def _is_set(cancel: threading.Event | None) -> bool:
    return cancel is not None and cancel.is_set()


def _checked_start(model: LinearModel, warm_start: Mapping[str, float]) -> dict[int, float]:
    index_of = {column.name: index for index, column in enumerate(model.columns)}
    unknown = [name for name in warm_start if name not in index_of]
    if unknown or not all(math.isfinite(value) for value in warm_start.values()):
        raise UsageError(
            "A warm start must give finite values of the model's own variables"
            + (f"; it names {unknown[0]!r}." if unknown else "."),
            code="warm_start_invalid",
            hint="Build it from the same model that is solved.",
        )
    return {index_of[name]: value for name, value in warm_start.items()}


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


def require_backend(backend: str) -> str:
    """Name and version. Raises UsageError (`solver_unknown`) and PlanningError (`solver_missing`)."""
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
