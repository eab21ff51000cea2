"""The measured sections of docs/poet-experiments.md and README.md, from results/poet-experiments.json alone.

python -m benchmarks.poet_experiments_readme      writes them into the documents
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
README = RESULTS.parents[2] / "README.md"
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


def short_section(results: Path = RESULTS) -> str:
    """What README.md shows of the stored results."""
    if not results.is_file():
        return "Not measured yet: `make poet-experiments`.\n"
    _about, facts, found = read_results(results)
    return in_short(facts, found) + "\n"


def filled(text: str, shown: str) -> str:
    """The document with its section as it is now."""
    first, last = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f"{text[:first]}\n{shown}\n{text[last:]}"


def main() -> int:
    """Writes the sections."""
    for document, shown in ((DOCUMENT, section()), (README, short_section())):
        text = document.read_text(encoding="utf-8")
        document.write_text(filled(text, shown), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
