"""`--baseline FILE|GIT-REF`: an earlier report, and what is other than it was.

A ref's report is the file `poet-check-baseline.json` beside the configuration, as that commit has
it. Invariant: of a ref only that one blob is read; nothing of it runs, and no text that was given
becomes an option of git.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from poet_cli.check.formats.document import LIMITS, read_report, render
from poet_cli.check.report import Report, Row, Verdict
from poet_cli.files import read_file, write_file
from poet_core.errors import PoetError, UsageError
from poet_core.text import printable

BASELINE_NAME = "poet-check-baseline.json"
_WRITE_HINT = f"Write one with: poet check --output json={BASELINE_NAME}"
# git-check-ref-format(1) without what would be an option, a path or a range.
_REF = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_@{}/.^~+-]{0,199}")
_GIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A row beside the one of the same name in the baseline; differences are now less then, None
    where one of the two is not known. `new`: the baseline has no such row."""

    new: bool = False
    was: Verdict | None = None
    verdict_changed: bool = False
    floor_bytes: int | None = None
    peak_bytes: int | None = None
    seconds_ratio: float | None = None
    joules_ratio: float | None = None

    @property
    def nothing(self) -> bool:
        """Whether all is as it was."""
        return not (
            self.new
            or self.verdict_changed
            or self.floor_bytes
            or self.peak_bytes
            or self.seconds_ratio
            or self.joules_ratio
        )


def changes(report: Report, baseline: Report) -> dict[str, Change]:
    """What changed, by the name of the row."""
    before = {row.entry.name: row for row in baseline.rows}
    return {row.entry.name: _change(row, before.get(row.entry.name)) for row in report.rows}


def gone(report: Report, baseline: Report) -> tuple[str, ...]:
    """Names that only the baseline has."""
    now = {row.entry.name for row in report.rows}
    return tuple(row.entry.name for row in baseline.rows if row.entry.name not in now)


def _change(now: Row, before: Row | None) -> Change:
    if before is None:
        return Change(new=True)
    return Change(
        was=before.verdict,
        verdict_changed=now.verdict is not before.verdict,
        floor_bytes=_difference(now.floor_bytes, before.floor_bytes),
        peak_bytes=_difference(now.peak_bytes, before.peak_bytes),
        seconds_ratio=_ratio(now.seconds, before.seconds),
        joules_ratio=_ratio(now.joules, before.joules),
    )


def _difference(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else now - before


def _ratio(now: float | None, before: float | None) -> float | None:
    """By which share it is more; None where one is not known, or there was nothing before."""
    return None if now is None or not before else now / before - 1


def write_baseline(report: Report, path: Path) -> None:
    """Keeps a report as a baseline. Raises UsageError."""
    write_file(path, render(report).encode())


def load_baseline(given: str, folder: Path) -> Report:
    """The report in the file `given`, or beside the configuration in the commit that it names.

    `folder`: the configuration's. Raises UsageError and DocumentError.
    """
    path = Path(given)
    if _is_file(path) or given.endswith(".json"):
        return _read(read_file(path, LIMITS.document_bytes), given)
    return _read(_blob(given, folder), f"{given}:{BASELINE_NAME}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _read(text: bytes, where: str) -> Report:
    try:
        return read_report(text)
    except PoetError as error:
        error.message = f"{printable(where, 120)}: {error.message}"
        error.hint = error.hint or f"Is it a report of this version? {_WRITE_HINT}"
        raise


def _blob(ref: str, folder: Path) -> bytes:
    if not _REF.fullmatch(ref) or ".." in ref:
        raise UsageError(
            f"Expected a file or a git ref as baseline, got {printable(ref, 80)!r}.",
            code="baseline_invalid",
            hint=f"For example --baseline origin/main, or --baseline {BASELINE_NAME}.",
        )
    commit = _git(
        folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"
    )
    if commit is None:
        raise UsageError(
            f"There is neither a file nor a commit {printable(ref, 80)!r} here.",
            code="baseline_not_found",
            hint="In CI, fetch it first: git fetch --depth=1 origin main, and name origin/main.",
        )
    name = f"{commit.decode('ascii', 'replace').strip()}:./{BASELINE_NAME}"
    size = _git(folder, "cat-file", "-s", name)
    if size is None:
        raise UsageError(
            f"Commit {printable(ref, 80)!r} has no {BASELINE_NAME} beside the configuration.",
            code="baseline_missing",
            hint=f"{_WRITE_HINT}, and commit it.",
        )
    if int(size) > LIMITS.document_bytes:
        raise UsageError(
            f"Expected at most {LIMITS.document_bytes} bytes in {BASELINE_NAME} of "
            f"{printable(ref, 80)!r}, got {int(size)}.",
            code="document_too_large",
            hint=_WRITE_HINT,
        )
    # cat-file runs no filter and no text conversion, as `git show` may.
    return _git(folder, "cat-file", "blob", name) or b""


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git says; None where it says no."""
    environment = {
        **os.environ,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
    }
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607  The user's own git.
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"Cannot ask git for the baseline: {printable(str(error), 200)}.",
            code="baseline_git_failed",
            hint="Give a file: --baseline FILE.",
        ) from error
    return done.stdout if done.returncode == 0 else None
