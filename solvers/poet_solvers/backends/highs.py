"""HiGHS, the second solver: highspy in a child Python (`highs_child.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from poet_solvers.backends.adapter import Answer, module_is_present, python_answer, python_command
from poet_solvers.backends.process import ProcessResult
from poet_solvers.backends.result import SolveLimits, SolveStatus

# Every member of highspy.HighsModelStatus.
MODEL_STATUSES: Mapping[str, SolveStatus] = {
    "kNotset": SolveStatus.FAILED,
    "kLoadError": SolveStatus.FAILED,
    "kModelError": SolveStatus.FAILED,
    "kPresolveError": SolveStatus.FAILED,
    "kSolveError": SolveStatus.FAILED,
    "kPostsolveError": SolveStatus.FAILED,
    "kModelEmpty": SolveStatus.OPTIMAL,
    "kOptimal": SolveStatus.OPTIMAL,
    "kInfeasible": SolveStatus.INFEASIBLE,
    # Rare, since the child then solves again without presolve.
    "kUnboundedOrInfeasible": SolveStatus.UNBOUNDED,
    "kUnbounded": SolveStatus.UNBOUNDED,
    "kObjectiveBound": SolveStatus.FEASIBLE,
    "kObjectiveTarget": SolveStatus.FEASIBLE,
    "kTimeLimit": SolveStatus.FEASIBLE,
    "kIterationLimit": SolveStatus.FEASIBLE,
    "kSolutionLimit": SolveStatus.FEASIBLE,
    "kInterrupt": SolveStatus.FEASIBLE,
    "kHighsInterrupt": SolveStatus.FEASIBLE,
    "kUnknown": SolveStatus.FEASIBLE,
    "kMemoryLimit": SolveStatus.MEMORY,
}


class HighsAdapter:
    """HiGHS through its Python interface, in its own process."""

    def version(self) -> str | None:
        return metadata.version("highspy") if module_is_present("highspy") else None

    def command(
        self, folder: Path, limits: SolveLimits, warm_start: Mapping[int, float] | None
    ) -> list[str]:
        script = Path(__file__).with_name("highs_child.py")
        return python_command(script, folder, limits, warm_start)

    def read(self, folder: Path, process: ProcessResult) -> Answer:
        return python_answer(
            folder, process, MODEL_STATUSES, infeasible_or_unbounded="kUnboundedOrInfeasible"
        )
