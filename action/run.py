"""`poet check` in a job: the table into the log, annotations, the job's summary, a report to upload.

Invariant: what is asked for comes from the environment and goes to `poet check` as a list of
arguments, never through a shell; whatever it answers, this program succeeds and hands the exit code
on as an output, so that the report is uploaded before the job fails by it.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from action.problems import ActionError, annotation
from poet_core.text import printable

LARGEST_SUMMARY_BYTES = 1_000_000  # GitHub takes 1 MiB of a step
_MOST_ANNOTATION = 1000
_USAGE = 2  # the exit code of poet check where it was asked wrongly


def main(environment: Mapping[str, str] | None = None) -> int:
    """Run in the job's environment; the exit status of this program, not of the check."""
    given = dict(os.environ if environment is None else environment)
    try:
        folder = _folder(given)
        out = Path(tempfile.mkdtemp(prefix="poet-check-", dir=given.get("RUNNER_TEMP")))
        code, said = _checked(given, folder, out)
    except ActionError as error:
        print(annotation(error))
        _tell(given, "GITHUB_OUTPUT", f"exit-code={_USAGE}\n")
        return 0
    _show(given, out, code, said)
    return 0


def _checked(given: Mapping[str, str], folder: Path, out: Path) -> tuple[int, str]:
    """The exit code of `poet check`, which has written its report below `out`, and its stderr."""
    # -P: nothing in the repository's folder stands in for a module that poet imports.
    command = [sys.executable, "-P", "-m", "poet_cli.main", "check", "--format", "human"]
    for shape, name in _FILES.items():
        command += ["--output", f"{shape}={out / name}"]
    for option, variable in (("--config", "POET_CONFIG"), ("--baseline", "POET_BASELINE")):
        if given.get(variable):
            command += [option, given[variable]]
    command += _arguments(given.get("POET_ARGS", ""))
    # Names and messages in the log are a pull request's: none of them is an order to the runner.
    token = secrets.token_hex(16)
    print(f"::stop-commands::{token}", flush=True)
    try:
        done = subprocess.run(
            command, cwd=folder, env=dict(given), stderr=subprocess.PIPE, check=False
        )
        said = done.stderr.decode("utf-8", "replace")
        print(said, flush=True)
    except OSError as error:
        raise ActionError(f"Could not start {printable(command[0])}: {error}") from error
    finally:
        print(f"\n::{token}::", flush=True)
    return done.returncode, said


_FILES = {
    "json": "report.json",
    "markdown": "summary.md",
    "sarif": "poet-check.sarif",
    "github": "annotations.txt",
}


def _arguments(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ActionError(
            f"Expected arguments as in a shell, got {printable(text)!r}: {error}.",
            hint="Close every quote of the input `args`.",
        ) from error


def _folder(given: Mapping[str, str]) -> Path:
    """Where poet check runs: the input, from the checked out repository."""
    workspace = Path(given.get("GITHUB_WORKSPACE") or Path.cwd())
    folder = workspace / (given.get("POET_FOLDER") or ".")
    if not folder.is_dir():
        raise ActionError(
            f"Expected the input working-directory to be a folder, got {printable(str(folder))}.",
            hint="It is taken from the root of the repository; did the job check it out?",
        )
    return folder


def _show(given: Mapping[str, str], out: Path, code: int, said: str) -> None:
    """Annotations, summary and outputs; an error where there is no report."""
    report, sarif = (out / _FILES[shape] for shape in ("json", "sarif"))
    found = code >= 0 and report.is_file()
    outputs = {
        "exit-code": str(code if 0 <= code < 256 else 4),  # a signal: a fault of ours
        "report": str(report) if found else "",
        "sarif": str(sarif) if found else "",
    }
    if found:
        lines = (out / _FILES["github"]).read_text(encoding="utf-8")
        print(_from_root(lines, given.get("POET_FOLDER", "")), end="", flush=True)
        summary = (out / _FILES["markdown"]).read_text(encoding="utf-8")
    else:
        error = ActionError(_reason(code, said), code="no_report")
        print(annotation(error), flush=True)
        summary = "**poet check** ended without a report: see the log.\n"
    if len(summary.encode()) > LARGEST_SUMMARY_BYTES:
        summary = "**poet check**: the report is too long for a summary; it is in the artifact.\n"
    _tell(given, "GITHUB_STEP_SUMMARY", summary)
    _tell(given, "GITHUB_OUTPUT", "".join(f"{key}={value}\n" for key, value in outputs.items()))


_FILE = re.compile(r"^(::[a-z]+ (?:[^:,]*,)*file=)([^:,/][^:,]*)", re.MULTILINE)


def _from_root(lines: str, folder: str) -> str:
    """Annotations with their files as seen from the repository's root, where they are looked for."""
    prefix = PurePosixPath(folder).as_posix()
    if prefix == ".":
        return lines
    escaped = prefix.replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return _FILE.sub(lambda found: f"{found[1]}{escaped}/{found[2]}", lines)


def _reason(code: int, said: str) -> str:
    """Why there is no report, from what poet check said last."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("No module named" in line and "poet_cli" in line for line in lines):
        return (
            "poet is not installed in the Python of the input `python`. "
            "Hint: python -m pip install 'poet-planner[train]'"
        )
    first = next((number for number, line in enumerate(lines) if line.startswith("error:")), -1)
    told = " ".join(lines[first : first + 2] if first >= 0 else lines[-1:])
    return f"poet check ended with exit code {code}. {printable(told, _MOST_ANNOTATION)}"


def _tell(given: Mapping[str, str], variable: str, text: str) -> None:
    """Adds to a file that the runner reads; nothing where this is no runner."""
    path = given.get(variable)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())
