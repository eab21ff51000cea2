"""The measured section of docs/poet-experiments.md, from results/poet-experiments.json alone.

python -m benchmarks.poet_experiments_readme      writes it into the document
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.poet_experiments_grid import Grid
from benchmarks.poet_experiments_report import fault_list, faults, in_short
from benchmarks.poet_experiments_store import read_results
from benchmarks.poet_experiments_tables import published_table, training_tables

RESULTS = Path(__file__).resolve().parent / "results" / "poet-experiments.json"
DOCUMENT = RESULTS.parents[2] / "docs" / "poet-experiments.md"
BEGIN = "<!-- benchmarks.poet_experiments -->\n"
END = "<!-- end of benchmarks.poet_experiments -->\n"


def section(results: Path = RESULTS) -> str:
    """What the document shows of the stored results."""
    if not results.is_file():
        return "Not measured yet: `make poet-experiments`.\n"
    _about, facts, found = read_results(results)
    grid = Grid(facts, found)
    parts = [
        "### In short\n\n" + in_short(facts, found),
        "### Can it train?\n\n" + training_tables(grid).replace("### ", "#### "),
        "### POET's own lists of layers\n\n" + published_table(grid),
        "### Faults\n\n" + fault_list(faults(facts, found)),
    ]
    return "\n\n".join(parts) + "\n"


def filled(text: str, results: Path = RESULTS) -> str:
    """The document with the section as it is now."""
    first, last = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:first]}\n{section(results)}\n{text[last:]}"


def main() -> int:
    """Writes the section."""
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
