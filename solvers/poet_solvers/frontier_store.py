"""Finished points of frontiers on disk: one JSON object a line, appended as points are finished.

    {"schema": "poet.frontier/1", "problem": sha256, "planner": "poet-planner 0.1.0, ...",
     "ram_bytes": n, "limit_seconds": s, "settled": false, "plan": {poet.plan/1}}

Invariant: what `load` returns was accepted by the judge, now, for the very problem. A line that is
cut short (killed while writing), foreign or refused by the judge is left where it is and named in
`warnings`; its point is planned again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poet_core.documents import DEFAULT_LIMITS, Node, parse_json, refuse, sha256_of
from poet_core.errors import PoetError, UsageError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.plan_request import BackendChoice
from poet_core.text import printable
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.frontier_points import with_ram
from poet_solvers.portfolio import PlannerName
from poet_solvers.search import native_missing

SCHEMA = "poet.frontier/1"
_BEGIN = b'{"schema": "' + SCHEMA.encode()

_FIELDS = frozenset(
    {"schema", "problem", "planner", "ram_bytes", "limit_seconds", "settled", "plan"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPoint:
    """A finished point: its plan, the seconds that it was allowed, whether more would be no use."""

    plan: Plan
    limit_seconds: float
    settled: bool


def problem_sha256(problem: Problem) -> str:
    """Hash of everything that is asked, except the RAM budget and the device's name."""
    budget = asdict(problem.budget)
    del budget["ram_bytes"]
    return sha256_of(
        {
            "graph": graph_sha256(problem.graph),
            "costs": {name: _plain(value) for name, value in asdict(problem.costs).items()},
            "budget": budget,
            "objective": str(problem.objective),
            "allowed": asdict(problem.allowed),
        }
    )


def planner_name(planner: PlannerName, backend: BackendChoice, limits: SolveLimits) -> str:
    """The planner's version and what decides its answers, time and number of threads apart."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("poet-planner")
    except PackageNotFoundError:
        number = "from a source tree"
    search = "with the local search" if native_missing() is None else "without the local search"
    return (
        f"poet-planner {number}, {search}, {planner}, {backend}, seed {limits.seed}, "
        f"moves {limits.moves}, gap {limits.relative_gap}"
    )


class FrontierStore:
    """One file, the lines of one problem and planner in it. Raises UsageError (`file_unreadable`,
    `file_unwritable`)."""

    def __init__(self, path: Path, problem: Problem, planner: str) -> None:
        self._path, self._problem, self._planner = path, problem, planner
        self._sha256 = problem_sha256(problem)
        self.warnings: list[str] = []

    def load(self) -> dict[int, StoredPoint]:
        """The stored points by RAM budget, of several the one that had the most time."""
        points: dict[int, StoredPoint] = {}
        others = 0
        for number, line in self._lines():
            try:
                found = self._read(line)
            except PoetError as error:
                self.warnings.append(
                    f"Line {number} of the store is skipped: {printable(error.message, 200)}"
                )
                continue
            if found is None:
                others += 1
                continue
            before = points.get(found.plan.budget.ram_bytes)
            if before is None or _rank(found) > _rank(before):
                points[found.plan.budget.ram_bytes] = found
        if others:
            self.warnings.append(
                f"{others} stored points are of another problem, planner or seed; they stay."
            )
        return points

    def check(self) -> None:
        """Refuse a file in which nothing is a store's: it is somebody's, and would be spoilt.
        Raises UsageError (`store_foreign`)."""
        foreign = False
        for _, line in self._lines():
            # A store that was killed in its first line may hold the beginning of one only.
            foreign = not (line.startswith(_BEGIN) or _BEGIN.startswith(line))
            if not foreign:
                return
        if foreign:
            raise UsageError(
                f"Expected {printable(str(self._path))!r} to be new or a frontier's store, got a "
                "file of another kind.",
                code="store_foreign",
                hint="Give another name for the output.",
            )

    def clear(self) -> None:
        """Begin an empty file, which also shows that it can be written."""
        self._write("wb", b"")

    def add(self, point: StoredPoint) -> None:
        """Append a point; it is on the disk when this returns."""
        document = {
            "schema": SCHEMA,
            "problem": self._sha256,
            "planner": self._planner,
            "ram_bytes": point.plan.budget.ram_bytes,
            "limit_seconds": point.limit_seconds,
            "settled": point.settled,
            "plan": plan_to_document(point.plan),
        }
        line = json.dumps(document, ensure_ascii=True, allow_nan=False).encode() + b"\n"
        self._write("ab", line if self._ends_whole() else b"\n" + line)

    def _read(self, line: bytes) -> StoredPoint | None:
        """None where the line is of another problem or planner."""
        fields = Node(parse_json(line), "$", DEFAULT_LIMITS).fields(_FIELDS)
        fields.check_schema(SCHEMA)
        if (fields["problem"].string(), fields["planner"].string()) != (
            self._sha256,
            self._planner,
        ):
            return None
        plan = plan_from_document(fields["plan"].value, DEFAULT_LIMITS, "$.plan")
        ram_bytes = fields["ram_bytes"].integer()
        problem = with_ram(self._problem, ram_bytes)
        if (plan.budget, plan.costs, plan.objective, plan.allowed) != (
            problem.budget, problem.costs, problem.objective, problem.allowed,
        ):  # fmt: skip
            refuse("$.plan.problem", "the problem that the line names", "another")
        verify(problem.graph, plan)
        return StoredPoint(
            plan=plan,
            limit_seconds=fields["limit_seconds"].number(),
            settled=fields["settled"].boolean(),
        )

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        most = DEFAULT_LIMITS.document_bytes
        try:
            if not self._path.exists():
                return
            with self._path.open("rb") as file:
                number = 0
                while line := file.readline(most + 1):
                    number += 1
                    if line.strip():
                        yield number, line
        except (OSError, ValueError) as error:
            raise _file_error("read", self._path, error) from error

    def _ends_whole(self) -> bool:
        """Whether the file is empty or ends with a line's end."""
        try:
            with self._path.open("rb") as file:
                if not file.seek(0, os.SEEK_END):
                    return True
                file.seek(-1, os.SEEK_END)
                return file.read(1) == b"\n"
        except FileNotFoundError:
            return True
        except (OSError, ValueError) as error:
            raise _file_error("read", self._path, error) from error

    def _write(self, mode: str, data: bytes) -> None:
        try:
            with self._path.open(mode) as file:
                file.write(data)
                file.flush()
                with contextlib.suppress(OSError):  # what is no disk need not be synchronised
                    os.fsync(file.fileno())
        except (OSError, ValueError) as error:
            raise _file_error("write", self._path, error) from error


def _rank(point: StoredPoint) -> tuple[bool, float, float]:
    return point.settled, point.limit_seconds, -point.plan.objective_value


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _file_error(what: str, path: Path, error: Exception) -> UsageError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return UsageError(
        f"Cannot {what} {printable(str(path))!r}: {printable(str(reason), 100)}.",
        code="file_unreadable" if what == "read" else "file_unwritable",
        hint="Check the path and its permissions.",
    )
