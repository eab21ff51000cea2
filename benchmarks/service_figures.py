"""Figures of `benchmarks.service` and its like: each with what was asked of it; kept, judged, and as
a table. A book is what one program keeps: BOOK.json, BOOK.md, and a table in the operator's guide.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = RESULTS.parents[1] / "docs" / "operations.md"
BOOK = "service"
_LIBRARIES = ("fastapi", "starlette", "uvicorn", "h11", "sqlalchemy", "highspy", "pulp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Something measured. `most` or `least` is what was asked; neither: only told."""

    what: str
    value: float
    unit: str = ""
    most: float | None = None
    least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether it is not what was asked."""
        return (self.most is not None and self.value > self.most) or (
            self.least is not None and self.value < self.least
        )

    @property
    def asked(self) -> str:
        """What was asked, in words; "" where nothing was."""
        if self.most is not None and self.most == self.least:
            return _number(self.most, self.unit)
        if self.most is not None:
            return f"at most {_number(self.most, self.unit)}"
        return "" if self.least is None else f"at least {_number(self.least, self.unit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The figures of a part, and the load average before and after it."""

    title: str
    figures: tuple[Figure, ...]
    loads: tuple[float, float]


def store(name: str, part: Part, order: Sequence[str], book: str = BOOK) -> None:
    """Puts a part in the place of its earlier result, and writes the table and the page."""
    path = RESULTS / f"{book}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    kept["machine"] = machine()
    kept["parts"][name] = asdict(part)
    kept["parts"] = {key: kept["parts"][key] for key in order if key in kept["parts"]}
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    text = table(*stored(book))
    (RESULTS / f"{book}.md").write_text(text, encoding="utf-8")
    begin, end = f"<!-- benchmarks.{book} -->\n", f"<!-- end of benchmarks.{book} -->\n"
    before, begun, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    if begun:
        PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def stored(book: str = BOOK) -> tuple[list[Part], dict[str, str]]:
    """The parts that were written last, and the machine."""
    kept = json.loads((RESULTS / f"{book}.json").read_text(encoding="utf-8"))
    parts = [
        Part(
            title=part["title"],
            figures=tuple(Figure(**figure) for figure in part["figures"]),
            loads=(part["loads"][0], part["loads"][1]),
        )
        for part in kept["parts"].values()
    ]
    return parts, kept["machine"]


def missed(parts: Sequence[Part]) -> list[str]:
    """A sentence for every figure that is not what was asked."""
    return [
        f"{part.title}: {figure.what} {_number(figure.value, figure.unit)}, "
        f"{figure.asked} was asked"
        for part in parts
        for figure in part.figures
        if figure.missed
    ]


def table(parts: Sequence[Part], where: Mapping[str, str]) -> str:
    """The figures in Markdown."""
    lines = ["| | measured | asked |", "|---|---|---|"]
    for part in parts:
        before, after = part.loads
        load = f"load average {before:.1f} before, {after:.1f} after"
        lines.append(f"| **{part.title}** ({load}) | | |")
        for figure in part.figures:
            amount, asked = _number(figure.value, figure.unit), figure.asked
            asked += " (missed)" if figure.missed else ""
            lines.append(f"| {figure.what} | {amount} | {asked} |")
    told = ", ".join(f"{name} {value}" for name, value in where.items() if name in _LIBRARIES)
    place = f"{where['processor']}, {where['cores']} cores, Python {where['python']}"
    lines += ["", f"Service and load on the same machine: {place}, {told}."]
    return "\n".join(lines) + "\n"


def machine() -> dict[str, str]:
    """What the figures were measured on and with."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _number(value: float, unit: str) -> str:
    text = f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.2f}"
    return f"{text} {unit}".strip()
