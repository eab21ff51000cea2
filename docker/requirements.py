"""Prints what pyproject.toml asks for: the base, and the extras named as arguments, one requirement a line.

An image installs these before it copies the source, so that a change of the source does not install them again.
"""

import sys
import tomllib
from pathlib import Path


def main() -> None:
    """Print the requirements of the pyproject.toml in the current folder."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = list(project["dependencies"])
    for extra in sys.argv[1:]:
        requirements += project["optional-dependencies"][extra]
    print(*requirements, sep="\n")


if __name__ == "__main__":
    main()
