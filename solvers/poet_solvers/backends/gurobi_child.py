"""Solves one MPS file with Gurobi; run as a script: `gurobi_child.py JOB.json`.

The same job and answer files as `highs_child.py`; `status` is the name of the GRB.Status.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

_TOLERANCE = 1e-9


def main(job_path: str) -> None:
    """Reads the job, solves, writes the answer."""
    gurobipy = importlib.import_module("gurobipy")  # not a dependency, so no type checker finds it
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    model = gurobipy.read(job["model"])
    for parameter, value in _parameters(job).items():
        model.setParam(parameter, value)
    for index, value in job["start"] or []:
        model.getVarByName(f"x{int(index)}").Start = value
    model.optimize()
    answer_path = Path(job["answer"])
    aside = answer_path.with_suffix(".part")
    aside.write_text(json.dumps(_answer(model, gurobipy.GRB.Status)), encoding="utf-8")
    aside.replace(answer_path)


def _parameters(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "TimeLimit": job["wall_seconds"],
        "MIPGap": job["relative_gap"],
        "MIPGapAbs": 0.0,
        "FeasibilityTol": _TOLERANCE,
        "IntFeasTol": _TOLERANCE,
        "Threads": job["threads"],
        "Seed": job["seed"],
        # Tells infeasible and unbounded apart instead of answering INF_OR_UNBD.
        "DualReductions": 0,
    }


def _answer(model: Any, codes: Any) -> dict[str, Any]:
    names = {getattr(codes, name): name for name in dir(codes) if name.isupper()}
    values = None
    if model.SolCount:
        values = [model.getVarByName(f"x{i}").X for i in range(model.NumVars)]
    bound = model.ObjBound if model.IsMIP else (model.ObjVal if model.SolCount else None)
    return {"status": names.get(model.Status, str(model.Status)), "bound": bound, "values": values}


if __name__ == "__main__":
    main(sys.argv[1])
