"""A model's step as a graph, traced in a child process: a crash or a hang is an answer.

Invariant: `traced` returns a graph or says why there is none; nothing of the user's code runs in
this process, and nothing of a child stays behind.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poet_cli.check.children import ChildEnd, Ended, run_child
from poet_cli.check.entries import Entry
from poet_cli.check.inputs import Footprint, read_footprint
from poet_cli.check.report import Row, Verdict
from poet_cli.check.trace_child import ANSWER, FOOTPRINT, GRAPH, REQUEST
from poet_core.documents import DEFAULT_LIMITS, parse_json
from poet_core.errors import DocumentError
from poet_core.text import printable

_MOST_ANSWER_BYTES = DEFAULT_LIMITS.document_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceTask:
    """What is traced once, for however many devices. `measured`: each op is timed on this machine."""

    step: str
    batch_size: int | None
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLimits:
    """What a child may take."""

    wall_seconds: float
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A traced step: its document, not yet read, its hash, and what its tracing looked at."""

    document: bytes
    sha256: str
    footprint: Footprint
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoGraph:
    """Why there is none. `said`: the last of what the child printed."""

    code: str
    message: str
    hint: str
    internal: bool = False
    said: str = ""


def untraced_row(entry: Entry, why: NoGraph) -> Row:
    """The row of an entry that there is no graph of."""
    return Row(
        entry=entry,
        verdict=Verdict.FAILED,
        reason=why.message,
        code=why.code,
        hint=why.hint,
        internal=why.internal,
    )


def traced(
    task: TraceTask,
    folder: Path,
    work: Path,
    limits: TraceLimits,
    cancel: threading.Event,
) -> Graph | NoGraph:
    """Traces `task` with `folder` as the current folder; `work` holds what is temporary."""
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as name:
        own = Path(name)
        request = own / REQUEST
        request.write_text(
            json.dumps(
                {
                    "step": task.step,
                    "batch_size": task.batch_size,
                    "measured": task.measured,
                    "memory_bytes": limits.memory_bytes,
                }
            ),
            encoding="utf-8",
        )
        ended = run_child(
            "poet_cli.check.trace_child",
            request,
            folder=folder,
            wall_seconds=limits.wall_seconds,
            cancel=cancel,
        )
        answer = _answer(own)
        if answer is None:
            return _unanswered(task, ended, limits)
        if "error" in answer:
            return _refused(answer["error"], ended.said)
        return _graph(answer, own, ended.said)


def _answer(work: Path) -> dict[str, Any] | None:
    """The child's answer; None where it wrote none. The user's code ran beside it: it is read as a
    stranger's document is."""
    try:
        with (work / ANSWER).open("rb") as file:
            answer = parse_json(file.read(_MOST_ANSWER_BYTES))
    except (OSError, DocumentError):
        return None
    return answer if isinstance(answer, dict) else None


def _refused(error: Any, said: str) -> NoGraph:
    fields = error if isinstance(error, dict) else {}
    return NoGraph(
        code=printable(str(fields.get("code", "trace_failed")), 60),
        message=printable(str(fields.get("message", "The step cannot be traced.")), 1000),
        hint=printable(str(fields.get("hint", "")), 1000),
        internal=fields.get("internal") is True,
        said=said,
    )


def _graph(answer: dict[str, Any], work: Path, said: str) -> Graph | NoGraph:
    try:
        document = (work / GRAPH).read_bytes()
        looked_at = read_footprint((work / FOOTPRINT).read_bytes())
        sha256 = answer["graph_sha256"]
    except (OSError, KeyError, DocumentError):
        return NoGraph(
            code="trace_answer_invalid",
            message="The process that traced gave an answer that cannot be read.",
            hint="See what it printed: poet check --verbose",
            internal=True,
            said=said,
        )
    return Graph(document=document, sha256=str(sha256), footprint=looked_at, said=said)


def _unanswered(task: TraceTask, ended: Ended, limits: TraceLimits) -> NoGraph:
    """A child that ended without a word, or was ended."""
    step = printable(task.step, 60)
    if ended.end is ChildEnd.CANCELLED:
        return NoGraph(code="cancelled", message="The check was stopped.", hint="", said=ended.said)
    if ended.end is ChildEnd.TIMED_OUT:
        return NoGraph(
            code="trace_timed_out",
            message=f"{step} was not built and traced within {limits.wall_seconds:g} s.",
            hint="Does it wait for input or a download? Give it longer: "
            f"poet check --trace-timeout {2 * limits.wall_seconds:g}",
            said=ended.said,
        )
    if ended.exit_status == -signal.SIGKILL:
        return NoGraph(
            code="trace_killed",
            message=f"The process that traced {step} was killed; most often that is the system "
            "running out of memory.",
            hint="Use a smaller batch_size, run fewer at once (poet check --jobs 1), or check on a "
            "larger machine.",
            said=ended.said,
        )
    if ended.exit_status < 0:
        return NoGraph(
            code="trace_crashed",
            message=f"The process that traced {step} crashed with {_signal(-ended.exit_status)}.",
            hint="See what it printed last: poet check --verbose",
            said=ended.said,
        )
    return NoGraph(
        code="step_exited",
        message=f"{step} ended the process that traced it, with exit status {ended.exit_status}.",
        hint='Leave out os._exit, and put what runs a script below: if __name__ == "__main__":',
        said=ended.said,
    )


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
