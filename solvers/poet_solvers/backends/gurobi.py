"""Gurobi, where gurobipy is installed and licensed: driven by `gurobi_child.py`, never required."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from poet_solvers.backends.adapter import Answer, module_is_present, python_answer, python_command
from poet_solvers.backends.process import ProcessResult
from poet_solvers.backends.result import SolveLimits, SolveStatus

# Every GRB.Status, by the name that the child writes.
MODEL_STATUSES: Mapping[str, SolveStatus] = {
    "LOADED": SolveStatus.FAILED,
    "OPTIMAL": SolveStatus.OPTIMAL,
    "INFEASIBLE": SolveStatus.INFEASIBLE,
    "INF_OR_UNBD": SolveStatus.UNBOUNDED,
    "UNBOUNDED": SolveStatus.UNBOUNDED,
    "CUTOFF": SolveStatus.FEASIBLE,
    "ITERATION_LIMIT": SolveStatus.FEASIBLE,
    "NODE_LIMIT": SolveStatus.FEASIBLE,
    "TIME_LIMIT": SolveStatus.FEASIBLE,
    "SOLUTION_LIMIT": SolveStatus.FEASIBLE,
    "INTERRUPTED": SolveStatus.FEASIBLE,
    "NUMERIC": SolveStatus.FAILED,
    "SUBOPTIMAL": SolveStatus.FEASIBLE,
    "INPROGRESS": SolveStatus.FAILED,
    "USER_OBJ_LIMIT": SolveStatus.FEASIBLE,
    "WORK_LIMIT": SolveStatus.FEASIBLE,
    "MEM_LIMIT": SolveStatus.MEMORY,
    "LOCALLY_OPTIMAL": SolveStatus.FEASIBLE,
    "LOCALLY_INFEASIBLE": SolveStatus.FEASIBLE,
}


class GurobiAdapter:
    """Gurobi through gurobipy, in its own process."""

    def version(self) -> str | None:
        return _licensed_version() if module_is_present("gurobipy") else None

    def command(
        self, folder: Path, limits: SolveLimits, warm_start: Mapping[int, float] | None
    ) -> list[str]:
        script = Path(__file__).with_name("gurobi_child.py")
        return python_command(script, folder, limits, warm_start)

    def read(self, folder: Path, process: ProcessResult) -> Answer:
        return python_answer(folder, process, MODEL_STATUSES, infeasible_or_unbounded="INF_OR_UNBD")


@functools.cache
def _licensed_version() -> str | None:
    """Asks a child for an environment, which is what a licence is needed for."""
    asked = [sys.executable, "-I", "-c", "import gurobipy; gurobipy.Env().dispose()"]
    try:
        said = subprocess.run(
            asked, check=False, capture_output=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return metadata.version("gurobipy") if said.returncode == 0 else None
