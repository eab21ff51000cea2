"""Running commands as someone who does not have this tree would: elsewhere, with nothing of it on any path."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def clean_environment(**changes: str) -> dict[str, str]:
    """The environment without what would let a subprocess see this tree or this interpreter."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "POET_REQUIRE_NATIVE"}
    }
    return kept | changes


def run(
    *command: str | Path, cwd: Path, timeout_seconds: float = 240, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with captured output; the caller judges its exit status."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean_environment(**changes),
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """The two files that a release uploads, and the source that the first one unpacks to."""

    sdist: Path
    wheel: Path
    unpacked: Path
