"""Solves one MPS file with HiGHS; run as a script: `highs_child.py JOB.json`.

Invariant: the answer file is either absent or whole (written aside, then renamed), and its
`status` is HiGHS's own word for it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highspy

# HiGHS's smallest useful tolerances: a RAM budget missed by one byte must not pass for met.
_TOLERANCE = 1e-9


def main(job_path: str) -> None:
    """Reads the job, solves, writes the answer."""
    started = time.monotonic()
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    new_solver: Callable[[], Any] = highspy.Highs  # untyped where all the rest of highspy is typed
    solver = new_solver()
    # Before its limits are set: a reader that runs out of time leaves an empty model, and that is
    # optimal.
    whole = solver.readModel(job["model"]) != highspy.HighsStatus.kError
    for option, value in _options(job).items():
        solver.setOptionValue(option, value)
    solver.setOptionValue("time_limit", _left(job, started))
    if job["start"] is not None:
        _give_start(solver, job["start"])
    if whole:
        solver.run()
    if solver.getModelStatus() == highspy.HighsModelStatus.kUnboundedOrInfeasible:
        solver.setOptionValue("presolve", "off")
        solver.setOptionValue("time_limit", _left(job, started))
        solver.run()
    answer_path = Path(job["answer"])
    aside = answer_path.with_suffix(".part")
    aside.write_text(json.dumps(_answer(solver)), encoding="utf-8")
    aside.replace(answer_path)


def _options(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "mip_rel_gap": job["relative_gap"],
        "mip_abs_gap": 0.0,
        "mip_feasibility_tolerance": _TOLERANCE,
        "primal_feasibility_tolerance": _TOLERANCE,
        "threads": job["threads"],
        "random_seed": job["seed"],
    }


def _left(job: dict[str, Any], started: float) -> float:
    return max(0.0, float(job["wall_seconds"]) - (time.monotonic() - started))


def _give_start(solver: Any, start: list[list[float]]) -> None:
    """A partial point: HiGHS completes the columns that it does not name."""
    indices = [int(index) for index, _ in start]
    solver.setSolution(len(indices), indices, [value for _, value in start])


def _answer(solver: Any) -> dict[str, Any]:
    info = solver.getInfo()
    feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    is_mip = any(kind != highspy.HighsVarType.kContinuous for kind in solver.getLp().integrality_)
    optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    lp_bound = info.objective_function_value if optimal else None
    return {
        "status": solver.getModelStatus().name,
        "bound": info.mip_dual_bound if is_mip else lp_bound,
        "values": list(solver.getSolution().col_value) if feasible else None,
        "duals": None if is_mip else list(solver.getSolution().row_dual),
    }


if __name__ == "__main__":
    main(sys.argv[1])
