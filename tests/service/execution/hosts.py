"""Host processes (host.py) as tests hold them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ODD_CHILD = "tests.service.execution.odd_child"
REAL_CHILD = "poet_service.execution.child"


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The process, and the number of its warm process; None where it died before it was ready."""

    process: subprocess.Popen[str]
    warm: int | None


@contextmanager
def hosted(
    folder: Path, child: str = ODD_CHILD, solves: int = 2, kill: str | None = None
) -> Iterator[Host]:
    """A host over the database in `folder`; killed on the way out if it still lives."""
    command = [sys.executable, "-m", "tests.service.execution.host", str(folder), child]
    process = subprocess.Popen(
        [*command, str(solves), *([kill] if kill else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        try:
            yield Host(process=process, warm=int(words[1]) if words else None)
        finally:
            process.kill()
