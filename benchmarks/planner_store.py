"""Results of the planner benchmark on disk: one JSON object a line, written as each job finishes.

    {"key": {"planner": sha256 of the planner's sources, "seconds": 10, ...}, "job": {...}, ...}

Invariant: a line counts only with the key of the run that asks, so a resumed run never mixes planners
or limits. A line cut short by an interruption is skipped; its job runs again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent

Record = dict[str, Any]

_SOURCES = ("poet_core/**/*.py", "solvers/poet_solvers/**/*.py", "solvers/native/**/*.*")


class Store:
    """The lines of one file that belong to one run."""

    def __init__(self, path: Path, key: Mapping[str, Any], *, resume: bool) -> None:
        self._path, self._key = path, dict(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            path.unlink(missing_ok=True)
        self.records: list[Record] = list(self._load())

    def _load(self) -> list[Record]:
        if not self._path.is_file():
            return []
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(record, dict) and record.get("key") == self._key:
                found.append(record)
        return found

    def find(self, job: Mapping[str, Any]) -> Record | None:
        """The record of a job that has been done."""
        wanted = dict(job)
        return next((record for record in self.records if record["job"] == wanted), None)

    def add(self, record: Record) -> Record:
        """Keep a record, on disk before this returns."""
        whole = {"key": self._key, **record}
        text = json.dumps(whole, separators=(",", ":"))
        with self._path.open("a", encoding="utf-8") as file:
            # A line that an interruption cut short must not swallow this one.
            file.write(text + "\n" if _ends_line(self._path) else "\n" + text + "\n")
        self.records.append(whole)
        return whole


def _ends_line(path: Path) -> bool:
    data = path.read_bytes()
    return not data or data.endswith(b"\n")


def planner_version() -> str:
    """A hash of the sources that decide a plan, native part included."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(REPOSITORY.glob(pattern)):
            digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def machine() -> dict[str, Any]:
    """What the seconds were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "highspy": _version("highspy"),
        "pulp": _version("pulp"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
