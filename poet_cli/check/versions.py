"""Which planner gave a row: a digest over everything of ours, and of the solvers, that decides one.

Invariant: nothing of it is imported for that.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

# The packages that a verdict and its advice come from; the profiles are data of the last.
_PACKAGES = ("poet_core", "poet_solvers", "poet_cli", "device_profiles")
_SUFFIXES = (".py", ".so", ".pyd", ".toml")
_SOLVERS = ("highspy-", "networkx-", "numpy-", "pulp-")


def tool_version() -> str:
    """The version of this distribution."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("poet-planner")
    except PackageNotFoundError:  # from a checkout that is only on the path
        return "unknown"


def planner_version() -> str:
    """The digest: our own sources and native parts, and the versions of the solvers."""
    digest = hashlib.sha256(sys.version.encode())
    for name in _solvers():
        digest.update(f"{name}\0".encode())
    for package in _PACKAGES:
        for path in _files(package):
            digest.update(f"{package}/{path.name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _solvers() -> Iterator[str]:
    for part in sys.path:
        try:
            names = os.listdir(part or ".")  # noqa: PTH208  The names alone.
        except OSError:
            continue
        yield from sorted(
            name
            for name in names
            if name.endswith(".dist-info") and name.lower().startswith(_SOLVERS)
        )


def _files(package: str) -> Iterator[Path]:
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(path for path in Path(folder).rglob("*") if path.suffix in _SUFFIXES)
