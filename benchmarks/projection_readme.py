"""The README's rows of the projection benchmark: Table 1 on MNIST beside the paper's, and what else
ships. `python -m benchmarks.projection_readme` writes them into README.md."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.planner_tables import table
from benchmarks.projection_recipes import PAPER_TABLE, PAPER_TRAINER, PaperRow
from benchmarks.projection_summary import Cell, find

RESULTS = Path(__file__).resolve().parent / "results"
README = RESULTS.parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks.projection -->\n", "<!-- end of benchmarks.projection -->\n"

_OTHERS = (
    "60,12+FC256, T=4, dropped bits",
    "60,12+FC256, shifted images",
    "60,12 lookup, shifted images",
)


def short_table(found: dict[str, Any]) -> str:
    """P@1 / P@3 / P@5 in percent, means over the seeds."""
    cells: list[Cell] = found["parts"]["table-mnist"]
    stretch: list[Cell] = found["parts"].get("stretch-mnist", [])
    rows = [_row("trainer", PAPER_TRAINER, find(cells, row="trainer"))]
    rows += [_row(size, paper, find(cells, row=size)) for size, paper in PAPER_TABLE.items()]
    rows += [_row(name, None, find(stretch, row=name)) for name in _OTHERS]
    rows += _quantized(found["parts"].get("quantized-mnist", []))
    return table(("MNIST [T,d]", "parameters", "paper", "here", "seeds"), rows) + "\n"


def _row(name: str, paper: PaperRow | None, cell: Cell | None) -> list[str]:
    published = "" if paper is None else " / ".join(f"{share:g}" for share in paper.precision)
    if cell is None:
        return [name, "", published, "not run", ""]
    shares = (cell["test"][k][0] for k in ("1", "3", "5"))
    here = " / ".join(f"{share:.2f}" for share in shares)
    return [name, f"{cell['parameters']:,}", published, here, str(len(cell["by_seed"]))]


def _quantized(cells: Iterable[Cell]) -> list[list[str]]:
    cell = find(cells, row="int8 after training", network="60,12")
    if cell is None:
        return []
    name = f"60,12 as int8, {cell['bytes'][0]:,.0f} bytes in all"
    return [[name, "7,210", "", f"{cell['test']['1'][0]:.2f}", str(len(cell["by_seed"]))]]


def stored() -> dict[str, Any]:
    """The benchmark's result."""
    found: dict[str, Any] = json.loads((RESULTS / "projection.json").read_text(encoding="utf-8"))
    return found


def main() -> int:
    """Writes the README's rows."""
    text = README.read_text(encoding="utf-8")
    first, last = text.index(BEGIN) + len(BEGIN), text.index(END)
    README.write_text(f"{text[:first]}\n{short_table(stored())}\n{text[last:]}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
