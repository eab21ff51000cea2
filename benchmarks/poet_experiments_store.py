"""Results of POET's experiments on disk: one JSON object a line, one line a point and method.

    {"unit": "ours", "version": "...", "result": {"series": {...}, "label": "60", ...}}
    {"unit": "facts", "version": "...", "facts": {...}}
    {"unit": "ours", "version": "...", "done": {"series": {...}}, "job_seconds": 12.3}

Invariant: a unit counts as done only with its `done` line of the version that asks, which stands
behind its results; so an interrupted unit runs again, and what other versions wrote is not looked at.
A line cut short by an interruption is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from benchmarks.poet_experiments_points import Facts, Outcome, Result, Scope, Series
from benchmarks.poet_experiments_units import FACTS, Unit

Line = dict[str, Any]


class Store:
    """The lines of one file; of a unit that was done twice the later ones count."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            path.unlink(missing_ok=True)
        # By unit, series and version: what it found, and its seconds where it is done.
        self._found: dict[tuple[str, Series, str], list[Result | Facts]] = {}
        self._done: dict[tuple[str, Series, str], float] = {}
        for line in self._lines():
            self._take(line)

    def is_done(self, unit: Unit, version: str) -> bool:
        """Whether a unit's answers of this version are here."""
        return (unit.work, unit.series, version) in self._done

    def found(self, unit: Unit, version: str) -> list[Result | Facts]:
        """The answers of a unit that is done."""
        key = (unit.work, unit.series, version)
        return self._found.get(key, []) if key in self._done else []

    def job_seconds(self, unit: Unit, version: str) -> float:
        """What a unit took; 0 where it is not done."""
        return self._done.get((unit.work, unit.series, version), 0.0)

    def add(
        self, unit: Unit, version: str, found: Iterable[Result | Facts], job_seconds: float
    ) -> None:
        """Keep a unit's answers, on disk before this returns."""
        begin = {"unit": unit.work, "version": version}
        lines: list[Line] = [
            {**begin, "facts" if isinstance(one, Facts) else "result": _document(one)}
            for one in found
        ]
        done = {**begin, "done": {"series": asdict(unit.series)}, "job_seconds": job_seconds}
        lines.append(done)
        text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
        with self._path.open("ab+") as file:
            # A line that an interruption cut short must not swallow the first of these.
            file.seek(0, 2)
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(text.encode())
        for line in lines:
            self._take(line)

    def _lines(self) -> Iterator[Line]:
        if not self._path.is_file():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for text in file:
                try:
                    line = json.loads(text)
                except json.JSONDecodeError:
                    continue
                if isinstance(line, dict):
                    yield line

    def _take(self, line: Line) -> None:
        unit, version = str(line["unit"]), str(line["version"])
        if "done" in line:
            series = _series(line["done"]["series"])
            self._done[unit, series, version] = float(line["job_seconds"])
            return
        one = read_facts(line["facts"]) if unit == FACTS else read_result(line["result"])
        before = self._found.setdefault((unit, one.series, version), [])
        place = [_name(other) for other in before]
        if _name(one) in place:
            before[place.index(_name(one))] = one
        else:
            before.append(one)


def _name(one: Result | Facts) -> tuple[str, ...]:
    return ("facts",) if isinstance(one, Facts) else (one.label, one.method)


def _document(one: Result | Facts) -> dict[str, Any]:
    """What is None is left out: most of a point without a plan."""
    return {name: value for name, value in asdict(one).items() if value is not None}


def read_result(document: dict[str, Any]) -> Result:
    """A result as `asdict` made it, Nones left out."""
    series, outcome = _series(document["series"]), Outcome(document["outcome"])
    return Result(**{**document, "series": series, "outcome": outcome})


def read_facts(document: dict[str, Any]) -> Facts:
    """Facts as `asdict` made them, Nones left out."""
    return Facts(**{"device_ram_bytes": None, **document, "series": _series(document["series"])})


def _series(document: dict[str, Any]) -> Series:
    return Series(**{**document, "scope": Scope(document["scope"])})


# -- the whole, for tables and plots ------------------------------------------------------------


_CLOCKS = ("planner_seconds", "given_seconds")
_COLUMNS = tuple(one.name for one in fields(Result) if one.name != "series")
# Enough to tell equal costs from different ones; joules and seconds are sums of floats.
_DIGITS = 12
_SAID_LENGTH = 60


def write_results(
    path: Path, about: dict[str, Any], facts: Iterable[Facts], results: Iterable[Result]
) -> None:
    """Everything in one file, a line a series: small enough to be kept with the sources."""
    grouped: dict[Series, list[Result]] = {}
    for result in results:
        grouped.setdefault(result.series, []).append(result)
    lines = ",\n".join(
        json.dumps(
            {"facts": _document(one), "results": [_row(r) for r in grouped.get(one.series, ())]},
            separators=(",", ":"),
        )
        for one in facts
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'{{"about":{json.dumps(about)},\n"columns":{json.dumps(_COLUMNS)},\n'
    path.write_text(f'{head}"series":[\n{lines}\n]}}\n', encoding="utf-8")


def read_results(path: Path) -> tuple[dict[str, Any], tuple[Facts, ...], tuple[Result, ...]]:
    """What `write_results` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    facts = tuple(read_facts(row["facts"]) for row in document["series"])
    results = tuple(
        read_result(
            {"series": row["facts"]["series"]} | dict(zip(document["columns"], values, strict=True))
        )
        for row in document["series"]
        for values in row["results"]
    )
    return document["about"], facts, results


def _row(result: Result) -> list[Any]:
    return [_shortened(name, getattr(result, name)) for name in _COLUMNS]


def _shortened(name: str, value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3) if name in _CLOCKS else float(f"{value:.{_DIGITS}g}")
    return value[:_SAID_LENGTH] if name == "said" and value else value
