"""The one interface that each solver's adapter fills in, and what the Python-driven ones share.

An adapter writes the command line of a solver process and reads what it left behind. It never runs
anything. Statuses go through one table a solver, in which FEASIBLE stands for "a limit was
reached": `limit_status` turns it into NOT_FOUND where no solution came with it.
"""

from __future__ import annotations

import importlib.util
import json
import math
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from poet_solvers.backends.process import ProcessEnd, ProcessResult
from poet_solvers.backends.result import SolveLimits, SolveStatus

MODEL_NAME = "model.mps"
_JOB_NAME = "job.json"
_ANSWER_NAME = "answer.json"
# What C++, Python, the dynamic loader and OpenBLAS say when an allocation fails.
_OUT_OF_MEMORY = (
    "bad_alloc",
    "MemoryError",
    "out of memory",
    "Out of memory",
    "Cannot allocate memory",
    "failed to map segment",
    "Memory allocation still failed",
)
_KILLED = "The solver was killed from outside, as the kernel does when memory is short."


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a solver left: `point` by column (a missing one is 0), `bound` in the units of the MPS,
    `duals` by row (of a model without integers, from a solver that says them).

    `exact_below`: integers of this size and more did not survive the way here.
    `or_infeasible` goes with UNBOUNDED: the solver did not look which of the two it is.
    """

    status: SolveStatus
    message: str
    point: Mapping[int, float] | None = None
    bound: float | None = None
    or_infeasible: bool = False
    exact_below: float = 2.0**53
    duals: tuple[float, ...] = ()


class Adapter(Protocol):
    """One solver."""

    def version(self) -> str | None:
        """The solver's version, or None where it cannot be used here."""

    def command(
        self, folder: Path, limits: SolveLimits, warm_start: Mapping[int, float] | None
    ) -> list[str]:
        """The command line (absolute program first), run inside `folder`; may add files there."""

    def read(self, folder: Path, process: ProcessResult) -> Answer:
        """What the ended process left in `folder` and in its log."""


def limit_status(status: SolveStatus, *, has_point: bool) -> SolveStatus:
    """A limit without a solution is NOT_FOUND."""
    if status is SolveStatus.FEASIBLE and not has_point:
        return SolveStatus.NOT_FOUND
    return status


def crash_answer(process: ProcessResult) -> Answer:
    """The answer of a solver that left none."""
    if process.end is ProcessEnd.KILLED_AT_LIMIT:
        return Answer(status=SolveStatus.NOT_FOUND, message=process.end.value)
    if any(sign in process.log for sign in _OUT_OF_MEMORY):
        return Answer(status=SolveStatus.MEMORY, message=SolveStatus.MEMORY.sentence)
    if process.exit_status == 128 + signal.SIGKILL:  # and not by us
        return Answer(status=SolveStatus.MEMORY, message=_KILLED)
    if process.crashed_near_cap:
        return Answer(status=SolveStatus.MEMORY, message=SolveStatus.MEMORY.sentence)
    return Answer(
        status=SolveStatus.FAILED,
        message=f"The solver left no answer (exit status {process.exit_status}).",
    )


def python_command(
    script: Path, folder: Path, limits: SolveLimits, warm_start: Mapping[int, float] | None
) -> list[str]:
    """The command line of a solver that is driven by one of our child scripts."""
    job = {
        "model": MODEL_NAME,
        "answer": _ANSWER_NAME,
        "wall_seconds": limits.wall_seconds,
        "relative_gap": limits.relative_gap,
        "threads": limits.threads,
        "seed": limits.seed,
        "start": None if warm_start is None else sorted(warm_start.items()),
    }
    (folder / _JOB_NAME).write_text(json.dumps(job), encoding="utf-8")
    # Not -I, which would hide packages that were installed with `pip install --user`.
    return [sys.executable, "-E", "-P", str(script), _JOB_NAME]


def python_answer(
    folder: Path,
    process: ProcessResult,
    statuses: Mapping[str, SolveStatus],
    *,
    infeasible_or_unbounded: str,
) -> Answer:
    """Reads a child script's answer: {"status", "bound" or null, "values" or null}, and perhaps
    "duals".

    `infeasible_or_unbounded` is the solver's name for not having looked which of the two it is.
    """
    try:
        left = json.loads((folder / _ANSWER_NAME).read_text(encoding="utf-8"))
        name = str(left["status"])
        values = left["values"]
        bound = left["bound"]
        duals = tuple(map(float, left.get("duals") or ()))
    except (OSError, ValueError, KeyError, TypeError):
        return crash_answer(process)
    if name not in statuses:
        return Answer(status=SolveStatus.FAILED, message=f"Unknown solver status {name!r}.")
    point = None if values is None else {index: float(v) for index, v in enumerate(values)}
    status = limit_status(statuses[name], has_point=point is not None)
    return Answer(
        status=status,
        message=f"{name}: {status.sentence}",
        point=point,
        bound=float(bound) if bound is not None and math.isfinite(bound) else None,
        or_infeasible=name == infeasible_or_unbounded,
        duals=duals,
    )


def module_is_present(name: str) -> bool:
    """Whether a Python module could be imported, without importing it."""
    return importlib.util.find_spec(name) is not None
