"""CBC, the default solver: the binary that PuLP brings, called by its command line.

CBC's exit status is 0 whatever happened; the truth is in the first line of its solution file and in
the `Result - ` line of its log, and it is told only when both agree.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from poet_solvers.backends.adapter import MODEL_NAME, Answer, crash_answer, limit_status
from poet_solvers.backends.process import ProcessEnd, ProcessResult
from poet_solvers.backends.result import SolveLimits, SolveStatus

_SOLUTION_NAME = "solution.txt"
_START_NAME = "start.mst"
_AMBIGUOUS = "infeasible or unbounded"  # its preprocessing; the solution file says "infeasible"
_NO_POINT = "(no integer solution - continuous used)"
# It prints eight digits of every value.
_EXACT_BELOW = 1e8
# CBC's default absolute gap (1e-10) and increment (1e-5) are kept: costs are scaled to 1e4.
_TOLERANCE = "1e-9"

# Every text with which CBC 2.10 can begin a solution file (read off CbcSolver.cpp).
SOLUTION_STATUSES: Mapping[str, SolveStatus] = {
    "Optimal": SolveStatus.OPTIMAL,
    "Optimal (within gap tolerance)": SolveStatus.OPTIMAL,
    "Infeasible": SolveStatus.INFEASIBLE,
    "Integer infeasible": SolveStatus.INFEASIBLE,
    "Unbounded": SolveStatus.UNBOUNDED,
    "Stopped on time": SolveStatus.FEASIBLE,
    "Stopped on iterations": SolveStatus.FEASIBLE,
    "Stopped on ctrl-c": SolveStatus.FEASIBLE,
    "Stopped on difficulties": SolveStatus.FAILED,
    "Status unknown": SolveStatus.FAILED,
}

# Every text that can follow "Result - " in its log; a pure LP writes no such line.
RESULT_STATUSES: Mapping[str, SolveStatus] = {
    "Optimal solution found": SolveStatus.OPTIMAL,
    "Optimal solution found (within gap tolerance)": SolveStatus.OPTIMAL,
    "Problem proven infeasible": SolveStatus.INFEASIBLE,
    "Linear relaxation infeasible": SolveStatus.INFEASIBLE,
    "Linear relaxation unbounded": SolveStatus.UNBOUNDED,
    "Stopped on node limit": SolveStatus.FEASIBLE,
    "Stopped on time limit": SolveStatus.FEASIBLE,
    "Stopped on solution limit": SolveStatus.FEASIBLE,
    "Stopped on iterations limit": SolveStatus.FEASIBLE,
    "Stopped on user ctrl-c": SolveStatus.FEASIBLE,
    "User ctrl-c": SolveStatus.FEASIBLE,
    "Run abandoned": SolveStatus.FAILED,
}

_RESULT_LINE = re.compile(r"^Result - (.+?)\s*$", re.MULTILINE)
_BOUND_LINE = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
_BEST_POSSIBLE = re.compile(r"best possible (?:solution )?(-?[\d.]+(?:e[+-]?\d+)?)")


class CbcAdapter:
    """CBC through files: MPS in, solution text out."""

    def version(self) -> str | None:
        path = _binary()
        return None if path is None else _version_of(path)

    def command(
        self, folder: Path, limits: SolveLimits, warm_start: Mapping[int, float] | None
    ) -> list[str]:
        path = _binary()
        arguments = [str(path), MODEL_NAME]
        arguments += ["-sec", repr(limits.wall_seconds), "-timeMode", "elapsed"]
        arguments += ["-ratioGap", repr(limits.relative_gap)]
        arguments += ["-primalT", _TOLERANCE, "-integerT", _TOLERANCE]
        # 0 would mean "seed with the time of day", which no run could repeat.
        arguments += ["-randomCbcSeed", str(limits.seed + 1)]
        if limits.threads > 1:
            arguments += ["-threads", str(limits.threads)]
        if warm_start is not None:
            (folder / _START_NAME).write_text(_start_text(warm_start), encoding="ascii")
            arguments += ["-mipstart", _START_NAME]
        return [*arguments, "-solve", "-solution", _SOLUTION_NAME]

    def read(self, folder: Path, process: ProcessResult) -> Answer:
        try:
            text = (folder / _SOLUTION_NAME).read_text(encoding="ascii", errors="replace")
        except OSError:
            text = ""
        if process.end is ProcessEnd.KILLED_AT_LIMIT:
            # Half a solution file is no solution: what it was writing is not trusted.
            return Answer(
                status=SolveStatus.NOT_FOUND,
                message=ProcessEnd.KILLED_AT_LIMIT.value,
                bound=_bound_in(process.log),
            )
        if not text.endswith("\n"):
            return crash_answer(process)
        return _answer(text, process.log)


def _answer(text: str, log: str) -> Answer:
    header, _, body = text.partition("\n")
    words = header.partition(" - objective value")[0]
    has_point = _NO_POINT not in words
    words = words.replace(_NO_POINT, "").strip()
    if words not in SOLUTION_STATUSES:
        return Answer(status=SolveStatus.FAILED, message=f"Unknown CBC status {words!r}.")
    claimed = limit_status(_agreed(SOLUTION_STATUSES[words], log), has_point=has_point)
    if claimed is SolveStatus.INFEASIBLE and _AMBIGUOUS in log:
        return Answer(status=SolveStatus.UNBOUNDED, message=_AMBIGUOUS, or_infeasible=True)
    return Answer(
        status=claimed,
        message=f"{words}: {claimed.sentence}",
        point=_point(body) if claimed.has_solution else None,
        bound=_bound_in(log),
        exact_below=_EXACT_BELOW,
    )


def _agreed(by_solution: SolveStatus, log: str) -> SolveStatus:
    """The weaker of what the solution file and the log say: a proof needs both."""
    results = _RESULT_LINE.findall(log)
    if not results:
        return by_solution
    by_log = RESULT_STATUSES.get(results[-1], SolveStatus.FAILED)
    if by_solution is by_log:
        return by_solution
    if SolveStatus.FAILED in (by_solution, by_log):
        return SolveStatus.FAILED
    return SolveStatus.FEASIBLE


def _point(body: str) -> dict[int, float]:
    """Lines of `index name value reduced_cost`, "**" in front of those that break a bound."""
    point: dict[int, float] = {}
    for line in body.splitlines():
        fields = line.removeprefix("**").split()
        if len(fields) == 4 and fields[1].startswith("x"):
            point[int(fields[1][1:])] = float(fields[2])
    return point


def _bound_in(log: str) -> float | None:
    """The last bound that the log names; CBC prints 1e50 where it has none."""
    texts = _BOUND_LINE.findall(log) or _BEST_POSSIBLE.findall(log)
    bound = float(texts[-1]) if texts else None
    return bound if bound is not None and abs(bound) < 1e49 else None


def _start_text(warm_start: Mapping[int, float]) -> str:
    lines = [f"{index} x{index} {value!r} 0" for index, value in sorted(warm_start.items())]
    return "\n".join(["Stopped on iterations - objective value 0", *lines]) + "\n"


@functools.cache
def _binary() -> str | None:
    """PuLP's own CBC, else one on the PATH."""
    import pulp

    bundled = os.path.realpath(pulp.PULP_CBC_CMD.pulp_cbc_path)
    return bundled if os.access(bundled, os.X_OK) else shutil.which("cbc")


@functools.cache
def _version_of(path: str) -> str | None:
    try:
        said = subprocess.run(
            [path, "-quit"],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"^Version: (\S+)", said, re.MULTILINE)
    return found.group(1) if found else None
